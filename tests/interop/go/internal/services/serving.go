// Package services has the interfaces that the plugins serve, and how a plugin and a host of this module name them.
package services

import (
	"context"
	"crypto/tls"
	"errors"
	"os"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"interop/internal/certificates"
)

// Handshake is the cookie of go-plugin's own examples; hosts and plugins of this module agree on it.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "BASIC_PLUGIN",
	MagicCookieValue: "hello",
}

// Register adds a service to a plugin's server.
type Register func(*plugin.GRPCBroker, grpc.ServiceRegistrar)

// Connection is what a host dispenses for every interface: all that a stub is made of.
type Connection struct {
	Broker *plugin.GRPCBroker
	Conn   *grpc.ClientConn
}

// Interface is go-plugin's `Plugin` for one service, on either side; hosts leave Register nil.
type Interface struct {
	plugin.NetRPCUnsupportedPlugin
	Register Register
}

// GRPCServer registers the service in the plugin.
func (i Interface) GRPCServer(broker *plugin.GRPCBroker, server *grpc.Server) error {
	if i.Register == nil {
		return errors.New("this interface has no service")
	}
	i.Register(broker, server)
	return nil
}

// GRPCClient dispenses the Connection in the host.
func (i Interface) GRPCClient(_ context.Context, broker *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return Connection{Broker: broker, Conn: conn}, nil
}

// Set is a plugin set of gRPC services by their names.
func Set(services map[string]Register) plugin.PluginSet {
	set := plugin.PluginSet{}
	for name, register := range services {
		set[name] = Interface{Register: register}
	}
	return set
}

// Serve serves one version of a few services until the host ends it, with the certificates that INTEROP_TLS says where to find.
func Serve(services map[string]Register) {
	config := &plugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins:         Set(services),
		GRPCServer:      plugin.DefaultGRPCServer,
	}
	if folder := os.Getenv("INTEROP_TLS"); folder != "" {
		config.TLSProvider = func() (*tls.Config, error) { return certificates.Load(folder, "plugin") }
	}
	plugin.Serve(config)
}
