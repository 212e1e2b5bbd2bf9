// Package ext is a module of Traefik that has no version.
package ext

// HTTP and the others have no fields.
type (
	HTTP      struct{}
	Router    struct{}
	RouterIng struct{}
)

// ToRouter is called by a provider.
func (RouterIng) ToRouter() (r Router) { return r }
