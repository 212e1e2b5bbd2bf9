// Traefik runs Traefik with its file configuration, from the packages of Traefik that a request passes: the entry point,
// the router, the middlewares headers and forwardAuth, the load balancer and the proxy. The whole program has four times
// as many packages, most of them for providers and certificates.
//
// usage: traefik FILE.yml
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/containous/alice"
	parser "github.com/traefik/paerser/file"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/config/runtime"
	"github.com/traefik/traefik/v3/pkg/config/static"
	"github.com/traefik/traefik/v3/pkg/middlewares/auth"
	"github.com/traefik/traefik/v3/pkg/middlewares/headers"
	httpmuxer "github.com/traefik/traefik/v3/pkg/muxer/http"
	"github.com/traefik/traefik/v3/pkg/provider/file"
	"github.com/traefik/traefik/v3/pkg/proxy/httputil"
	"github.com/traefik/traefik/v3/pkg/safe"
	"github.com/traefik/traefik/v3/pkg/server"
	"github.com/traefik/traefik/v3/pkg/server/middleware"
	"github.com/traefik/traefik/v3/pkg/server/router"
	tcprouter "github.com/traefik/traefik/v3/pkg/server/router/tcp"
	"github.com/traefik/traefik/v3/pkg/server/service"
	"github.com/traefik/traefik/v3/pkg/tls"
)

// A configuration is what the file may have.
type configuration struct {
	EntryPoints static.EntryPoints
	Providers   struct{ File *file.Provider }
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: traefik FILE.yml")
	}
	log.Fatal(run(context.Background(), os.Args[1]))
}

func run(ctx context.Context, name string) error {
	var config configuration
	if err := parser.Decode(name, &config); err != nil {
		return err
	}
	if config.Providers.File == nil || len(config.EntryPoints) != 1 {
		return errors.New("want one entry point and the provider file")
	}
	pool := safe.NewPool(ctx)
	messages := make(chan dynamic.Message, 1)
	if err := config.Providers.File.Provide(messages, pool); err != nil {
		return err
	}
	for name, point := range config.EntryPoints {
		handler, err := handlerOf(ctx, pool, name, qualified((<-messages).Configuration.HTTP, name))
		if err != nil {
			return err
		}
		entry, err := server.NewTCPEntryPoint(ctx, name, point, nil, nil)
		if err != nil {
			return err
		}
		tcp, err := tcprouter.NewRouter(nil)
		if err != nil {
			return err
		}
		tcp.SetHTTPHandler(handler)
		entry.SwitchRouter(tcp)
		entry.Start(ctx)
	}
	return errors.New("the entry point has ended")
}

// qualified adds the provider to names and the entry point to routers, as Traefik does when it joins its providers.
func qualified(from *dynamic.HTTPConfiguration, entryPoint string) dynamic.Configuration {
	to := &dynamic.HTTPConfiguration{
		Routers:           map[string]*dynamic.Router{},
		Middlewares:       map[string]*dynamic.Middleware{},
		Services:          map[string]*dynamic.Service{},
		ServersTransports: map[string]*dynamic.ServersTransport{"default@internal": {MaxIdleConnsPerHost: 200}},
	}
	for name, r := range from.Routers {
		r.EntryPoints = []string{entryPoint}
		to.Routers[name+"@file"] = r
	}
	for name, m := range from.Middlewares {
		to.Middlewares[name+"@file"] = m
	}
	for name, s := range from.Services {
		to.Services[name+"@file"] = s
	}
	return dynamic.Configuration{HTTP: to}
}

func handlerOf(ctx context.Context, pool *safe.Pool, entryPoint string, config dynamic.Configuration) (http.Handler, error) {
	observability := middleware.NewObservabilityMgr(static.Configuration{}, nil, nil, nil, nil, nil)
	transports := service.NewTransportManager(nil)
	transports.Update(config.HTTP.ServersTransports)
	all := runtime.NewConfig(config)
	services := service.NewManager(all.Services, observability, pool, transports, httputil.NewProxyBuilder(transports, nil))
	rules, err := httpmuxer.NewSyntaxParser()
	if err != nil {
		return nil, err
	}
	routers := router.NewManager(all, services, middlewares(config.HTTP.Middlewares), observability, tls.NewManager(nil), rules, nil)
	routers.ParseRouterTree()
	handler := routers.BuildHandlers(ctx, []string{entryPoint}, false)[entryPoint]
	for name, r := range all.Routers {
		if r.Err != nil {
			return nil, fmt.Errorf("router %s: %v", name, r.Err)
		}
	}
	return handler, nil
}

// middlewares builds the two kinds that the page has.
type middlewares map[string]*dynamic.Middleware

func (all middlewares) BuildMiddlewareChain(ctx context.Context, names []string) *alice.Chain {
	chain := alice.New()
	for _, name := range names {
		chain = chain.Append(func(next http.Handler) (http.Handler, error) {
			switch m := all[name]; {
			case m == nil:
				return nil, fmt.Errorf("middleware %s does not exist", name)
			case m.Headers != nil:
				return headers.New(ctx, next, *m.Headers, name)
			case m.ForwardAuth != nil:
				return auth.NewForward(ctx, next, *m.ForwardAuth, name)
			default:
				return nil, fmt.Errorf("middleware %s is of another kind", name)
			}
		})
	}
	return &chain
}
