package install

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
)

// TestTheManifestsOfSeveralPodsFitTogether: each is valid for its type, and what one names exists in another.
func TestTheManifestsOfSeveralPodsFitTogether(t *testing.T) {
	server := manifest[apps.StatefulSet](t, "shared/statefulset")
	initial := manifest[batch.Job](t, "shared/init").Spec.Template
	configuration := manifest[core.ConfigMap](t, "shared/configmap")
	if entries, err := os.ReadDir(filepath.Join(manifests, "shared")); err != nil || len(entries) != 8 {
		t.Errorf("%d files, and the tests read 8 (%v)", len(entries), err)
	}

	pod := server.Spec.Template
	if n := server.Spec.Replicas; n == nil || *n < 3 || !reflect.DeepEqual(server.Spec.Selector.MatchLabels, pod.Labels) {
		t.Error("there are not three replicas, or they are not those of the StatefulSet")
	}
	if server.Spec.UpdateStrategy.Type != apps.RollingUpdateStatefulSetStrategyType || server.Spec.UpdateStrategy.RollingUpdate != nil || server.Spec.MinReadySeconds < 5 {
		t.Error("an update stops a pod before the one before it gets requests again")
	}
	container := pod.Spec.Containers[0]
	sleep := container.Lifecycle.PreStop.Sleep.Seconds
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace == nil || sleep < 1 || *grace <= sleep+10 {
		t.Error("a stop can take 10 s after preStop, and the pod has less")
	}
	if reflect.DeepEqual(initial.Labels, pod.Labels) {
		t.Error("the services would send requests to the job")
	}
	wantProbes(t, container)
	wantHardened(t, pod.Spec)
	wantHardened(t, initial.Spec)
	wantMounts(t, initial.Spec, configuration.Name, "")
	wantVolumes(t, server, configuration.Name)
	if !slices.Equal(container.Args, []string{"serve"}) || !slices.Equal(initial.Spec.Containers[0].Args, []string{"init"}) {
		t.Errorf("arguments: %q", container.Args)
	}
	apart := pod.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm
	budget := manifest[policy.PodDisruptionBudget](t, "shared/disruption").Spec
	if !reflect.DeepEqual(apart.LabelSelector.MatchLabels, pod.Labels) || apart.TopologyKey != "kubernetes.io/hostname" ||
		!reflect.DeepEqual(budget.Selector.MatchLabels, pod.Labels) || budget.MaxUnavailable.IntValue() != 1 {
		t.Error("the loss or the drain of one machine can stop two pods")
	}
	if n := slices.IndexFunc(container.Env, func(v core.EnvVar) bool { return v.Name == "KEYMILL_NODE_ID" }); n < 0 ||
		container.Env[n].ValueFrom.FieldRef.FieldPath != "metadata.name" {
		t.Error("a server has not the name of its pod")
	}
}

// wantVolumes wants a volume of its own for each pod.
func wantVolumes(t *testing.T, server apps.StatefulSet, configuration string) {
	t.Helper()
	spec := server.Spec.Template.Spec
	for _, claim := range server.Spec.VolumeClaimTemplates {
		if !slices.Equal(claim.Spec.AccessModes, []core.PersistentVolumeAccessMode{core.ReadWriteOncePod}) {
			t.Errorf("two pods could have the volume: %v", claim.Spec.AccessModes)
		}
		spec.Volumes = append(spec.Volumes, core.Volume{Name: claim.Name, VolumeSource: core.VolumeSource{
			PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
		}})
	}
	wantMounts(t, spec, configuration, "data")
}

// TestKeysAreServedByPodsThatAreNotReady: the ingress sends requests for keys to all pods, and others to those that are ready.
func TestKeysAreServedByPodsThatAreNotReady(t *testing.T) {
	pod := manifest[apps.StatefulSet](t, "shared/statefulset").Spec.Template
	services := map[string]core.Service{}
	for _, name := range []string{"service", "keys"} {
		s := manifest[core.Service](t, "shared/"+name)
		services[s.Name] = s
		if !reflect.DeepEqual(s.Spec.Selector, pod.Labels) || s.Spec.Ports[0].TargetPort.StrVal != pod.Spec.Containers[0].Ports[0].Name {
			t.Errorf("the service %s does not select the port of the pods", s.Name)
		}
	}
	if name := manifest[apps.StatefulSet](t, "shared/statefulset").Spec.ServiceName; services[name].Name == "" {
		t.Errorf("there is no service %s", name)
	}
	paths := manifest[networking.Ingress](t, "shared/ingress").Spec.Rules[0].HTTP.Paths
	found := map[string]bool{} // path → whether pods that are not ready get its requests
	for _, p := range paths {
		s, ok := services[p.Backend.Service.Name]
		if !ok || s.Spec.Ports[0].Name != p.Backend.Service.Port.Name {
			t.Errorf("%s leads to no service", p.Path)
		}
		found[p.Path] = s.Spec.PublishNotReadyAddresses
	}
	if want := map[string]bool{"/.well-known/": true, "/": false}; !reflect.DeepEqual(found, want) {
		t.Errorf("paths %v", found)
	}
}

// TestTheNetworkPolicyOfSeveralPodsAllowsTheDatabase, names, and nothing else to the outside.
func TestTheNetworkPolicyOfSeveralPodsAllowsTheDatabase(t *testing.T) {
	pod := manifest[apps.StatefulSet](t, "shared/statefulset").Spec.Template
	p := manifest[networking.NetworkPolicy](t, "shared/networkpolicy").Spec
	if !reflect.DeepEqual(p.PodSelector.MatchLabels, pod.Labels) || p.Ingress[0].Ports[0].Port.StrVal != pod.Spec.Containers[0].Ports[0].Name ||
		!slices.Equal(p.PolicyTypes, []networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress}) {
		t.Error("the policy is not about the pods and their port")
	}
	var ports []int
	for _, rule := range p.Egress {
		if len(rule.To) == 0 {
			t.Error("a rule allows every receiver")
		}
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.IntValue())
		}
	}
	if !slices.Equal(ports, []int{53, 53, 5432}) {
		t.Errorf("ports %v", ports)
	}
	_, host, _ := strings.Cut(manifest[core.ConfigMap](t, "shared/configmap").Data["keymill.yaml"], "store: postgres://keymill@")
	host, _, _ = strings.Cut(host, "/")
	if namespace := p.Egress[1].To[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]; !strings.HasSuffix(host, "."+namespace+".svc") {
		t.Errorf("the store is at %s, and the policy allows the namespace %s", host, namespace)
	}
}

// TestTheConfigMapOfSeveralPodsIsAConfiguration: with the arguments and variables of the manifest the server accepts each
// setting, with and without the id of the store, and asks the database.
func TestTheConfigMapOfSeveralPodsIsAConfiguration(t *testing.T) {
	dir := t.TempDir()
	ca := httptest.NewTLSServer(nil)
	ca.Close()
	for name, text := range map[string]string{
		"master.key":     "9d2f6b18e04c7735a1c95be8027f3dd64ab810e37c5962f4d80b91ae563fc27d",
		"store-password": "a long random password\n",
		"db-ca.pem":      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := manifest[core.ConfigMap](t, "shared/configmap").Data["keymill.yaml"]
	for _, want := range []string{"listen: 0.0.0.0:8420\n", "data: /var/lib/keymill/data\n", "@postgres.databases.svc/"} {
		if !strings.Contains(text, want) {
			t.Fatalf("there is no %q", want)
		}
	}
	// Nothing listens at port 1.
	text = strings.NewReplacer("0.0.0.0:8420", "127.0.0.1:0", "/var/lib/keymill", dir, "/run/secrets/keymill", dir,
		"postgres.databases.svc", "127.0.0.1:1").Replace(text)
	container := manifest[apps.StatefulSet](t, "shared/statefulset").Spec.Template.Spec.Containers[0]
	for _, text := range []string{text, strings.Replace(text, "#database_id", "database_id", 1)} {
		if out, err := runContainer(t, container, dir, text); err == nil || !strings.Contains(out, "PostgreSQL keymill@127.0.0.1:1/keymill: no connection") {
			t.Errorf("%v: %s", err, out)
		}
	}
	if out, err := runContainer(t, container, dir, strings.Replace(text, "store.password_file", "store.pasword_file", 1)); err == nil || !strings.Contains(out, "store.pasword_file") {
		t.Errorf("a setting is not read: %v: %s", err, out)
	}
}
