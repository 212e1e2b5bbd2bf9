// Package docs runs what README.md and the pages below docs tell an operator to type, in
// the order of each page and without a change:
//
//	sh               runs on a machine of its own: private directories, network and processes
//	yaml ini nginx   a first line "# /etc/…" is the path that the block is written to
//	caddy            Debian's caddy parses it
//	python js        the programs in verify/ check a valid token and one for another audience
//
// A machine is a set of Linux namespaces. /etc, /var, /root and /usr/local are overlays, so that
// useradd and nginx change nothing outside. Port 443 and id.example.com are its own too.
// apt-get does nothing there, since scripts/install-deps has installed the packages. systemctl is a script (machine/systemctl) that starts the page's unit as systemd does: as its
// user, with its credential. All pages except README begin on a machine that docs/operate.md
// has installed.
//
// docs/operate.md also runs on a Debian with nothing but its required packages (machine/bare), which mmdebstrap
// makes. There apt-get installs what the page says, from its cache.
//
// The tests need root. scripts/install-deps installs nginx, caddy, systemd-analyze and mmdebstrap.
package docs
