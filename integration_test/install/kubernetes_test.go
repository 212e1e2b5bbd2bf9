package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const manifests = "../../scripts/deploy/kubernetes"

// manifest decodes one file. A field that the type does not have is an error.
func manifest[T any](t *testing.T, name string) T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(manifests, name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var decoded T
	if err := yaml.UnmarshalStrict(text, &decoded); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return decoded
}

// TestTheManifestsFitTogether: each is valid for its type, and what one names exists in another.
func TestTheManifestsFitTogether(t *testing.T) {
	server := manifest[apps.StatefulSet](t, "statefulset")
	initial := manifest[batch.Job](t, "init")
	configuration := manifest[core.ConfigMap](t, "configmap")
	volume := manifest[core.PersistentVolumeClaim](t, "volume")
	service := manifest[core.Service](t, "service")
	policy := manifest[networking.NetworkPolicy](t, "networkpolicy")
	entries, err := os.ReadDir(manifests)
	if err != nil || len(entries) != 7 {
		t.Errorf("%d files, and the tests read 6, and those of shared (%v)", len(entries), err)
	}

	pod := server.Spec.Template
	if server.Spec.ServiceName != service.Name || !reflect.DeepEqual(server.Spec.Selector.MatchLabels, pod.Labels) ||
		!reflect.DeepEqual(service.Spec.Selector, pod.Labels) || !reflect.DeepEqual(policy.Spec.PodSelector.MatchLabels, pod.Labels) {
		t.Error("the service, the policy and the StatefulSet select different pods")
	}
	if reflect.DeepEqual(initial.Spec.Template.Labels, pod.Labels) {
		t.Error("the service would send requests to the job")
	}
	if n := server.Spec.Replicas; n == nil || *n != 1 {
		t.Error("there is not exactly one replica")
	}
	if server.Spec.UpdateStrategy.Type != apps.RollingUpdateStatefulSetStrategyType || server.Spec.UpdateStrategy.RollingUpdate != nil ||
		server.Spec.PodManagementPolicy != "" || !slices.Equal(volume.Spec.AccessModes, []core.PersistentVolumeAccessMode{core.ReadWriteOncePod}) {
		t.Error("two pods could have the store")
	}
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace == nil || *grace <= 10 {
		t.Error("a stop can take 10 s, and the pod has less")
	}
	for _, spec := range []core.PodSpec{pod.Spec, initial.Spec.Template.Spec} {
		wantHardened(t, spec)
		wantMounts(t, spec, configuration.Name, volume.Name)
	}
	container := pod.Spec.Containers[0]
	wantProbes(t, container)
	if !slices.Equal(container.Args, []string{"serve"}) || !slices.Equal(initial.Spec.Template.Spec.Containers[0].Args, []string{"init"}) {
		t.Errorf("arguments: %q", container.Args)
	}
	if service.Spec.Ports[0].TargetPort.StrVal != container.Ports[0].Name || policy.Spec.Ingress[0].Ports[0].Port.StrVal != container.Ports[0].Name {
		t.Error("a port of the service or of the policy does not exist")
	}
	if !slices.Equal(policy.Spec.PolicyTypes, []networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress}) {
		t.Errorf("the policy covers %v", policy.Spec.PolicyTypes)
	}
}

// wantProbes wants a restart only of a process that does not answer, and requests only for a server that is ready.
func wantProbes(t *testing.T, container core.Container) {
	t.Helper()
	for name, probe := range map[string]*core.Probe{"/healthz": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
		if probe == nil || probe.HTTPGet.Path != name || probe.HTTPGet.Port.StrVal != container.Ports[0].Name {
			t.Errorf("the probe of %s: %v", name, probe)
		}
	}
	if p := container.StartupProbe; p == nil || p.HTTPGet.Port.StrVal != container.Ports[0].Name || p.PeriodSeconds*p.FailureThreshold < 900 {
		t.Error("a slow start is killed within 15 minutes")
	}
}

// wantHardened wants a pod that meets the profile "restricted" of Kubernetes' pod security standards,
// with a read-only root directory and without what the server does not use.
func wantHardened(t *testing.T, spec core.PodSpec) {
	t.Helper()
	pod, container := spec.SecurityContext, spec.Containers[0].SecurityContext
	set := func(b *bool, want bool) bool { return b != nil && *b == want }
	for what, ok := range map[string]bool{
		"runAsNonRoot":                 set(pod.RunAsNonRoot, true),
		"the user of the image":        pod.RunAsUser != nil && *pod.RunAsUser == 65532 && pod.FSGroup != nil && *pod.FSGroup == 65532,
		"seccompProfile":               pod.SeccompProfile != nil && pod.SeccompProfile.Type == core.SeccompProfileTypeRuntimeDefault,
		"allowPrivilegeEscalation":     set(container.AllowPrivilegeEscalation, false),
		"readOnlyRootFilesystem":       set(container.ReadOnlyRootFilesystem, true),
		"capabilities":                 slices.Equal(container.Capabilities.Drop, []core.Capability{"ALL"}) && container.Capabilities.Add == nil,
		"automountServiceAccountToken": set(spec.AutomountServiceAccountToken, false),
		"enableServiceLinks":           set(spec.EnableServiceLinks, false),
	} {
		if !ok {
			t.Errorf("%v: %s", spec.Containers[0].Args, what)
		}
	}
}

// wantMounts wants each mount to have its volume, with the secret not readable by others. Without a claim, data is of the pod alone.
func wantMounts(t *testing.T, spec core.PodSpec, configuration, claim string) {
	t.Helper()
	for _, m := range spec.Containers[0].VolumeMounts {
		n := slices.IndexFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name })
		if n < 0 {
			t.Errorf("the mount %s has no volume", m.Name)
			continue
		}
		switch v := spec.Volumes[n]; {
		case v.ConfigMap != nil && v.ConfigMap.Name == configuration && m.ReadOnly && m.MountPath == "/etc/keymill":
		case v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim && m.MountPath == "/var/lib/keymill":
		case v.EmptyDir != nil && claim == "" && m.MountPath == "/var/lib/keymill":
		case v.Secret != nil && *v.Secret.DefaultMode == 0o440 && m.ReadOnly && m.MountPath == "/run/secrets/keymill":
		default:
			t.Errorf("the volume %s does not fit its mount %s", m.Name, m.MountPath)
		}
	}
	if len(spec.Volumes) != 3 || len(spec.Containers[0].VolumeMounts) != 3 {
		t.Errorf("%d volumes", len(spec.Volumes))
	}
}

// TestTheConfigMapIsAConfiguration: with the arguments and variables of the manifest the server accepts each
// setting, and creates no store by itself, with and without the id of the store.
func TestTheConfigMapIsAConfiguration(t *testing.T) {
	text := manifest[core.ConfigMap](t, "configmap").Data["keymill.yaml"]
	for _, want := range []string{"listen: 0.0.0.0:8420\n", "data: /var/lib/keymill/data\n", "master_key_file: /run/secrets/keymill/master.key\n"} {
		if !strings.Contains(text, want) {
			t.Fatalf("there is no %q", want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "master.key"), []byte("9d2f6b18e04c7735a1c95be8027f3dd64ab810e37c5962f4d80b91ae563fc27d"), 0o600); err != nil {
		t.Fatal(err)
	}
	text = strings.NewReplacer("0.0.0.0:8420", "127.0.0.1:0", "/var/lib/keymill", dir, "/run/secrets/keymill", dir).Replace(text)
	for _, text := range []string{text, strings.Replace(text, "#database_id", "database_id", 1)} {
		container := manifest[apps.StatefulSet](t, "statefulset").Spec.Template.Spec.Containers[0]
		if out, err := runContainer(t, container, dir, text); err == nil || !strings.Contains(out, "there is no store at "+dir+"/data") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// runContainer runs the program as the container does in the pod keymill-0, with the configuration in dir.
func runContainer(t *testing.T, container core.Container, dir, configuration string) (string, error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "keymill.yaml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), container.Args...)
	for _, v := range container.Env {
		value := strings.NewReplacer("/etc/keymill", dir, "/var/lib/keymill", dir).Replace(v.Value)
		if from := v.ValueFrom; from != nil && from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name" {
			value = "keymill-0"
		}
		cmd.Env = append(cmd.Env, v.Name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// binary returns the path of the released program for this machine.
func binary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(released(t), "keymill_"+version+"_linux_"+runtime.GOARCH+".tar.gz")
	if err := shell(dir, nil, "tar --extract --strip-components=1 --file='"+archive+"'"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "keymill")
}
