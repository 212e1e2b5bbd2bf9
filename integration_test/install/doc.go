// Package install runs scripts/release and installs what it built, on machines of its own: the Debian
// package under the real systemd, the container image as its user, and the manifests of Kubernetes
// against the types of its API.
//
// A machine is a set of Linux namespaces (machine/run) with overlays of this machine's /etc, /usr and
// /var, so nothing outside changes. systemd is process 1 there. The tests need root.
// scripts/install-deps installs skopeo, umoci and systemd.
package install
