// Package shared is what the plugin and the host agree on.
package shared

import (
	"context"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"example/kvpb"
)

// Handshake is this library's magic cookie, where nobody says otherwise.
var Handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "SUPERVISOR_PLUGIN",
	MagicCookieValue: "3f0c7a1e-6d58-4b5f-9a53-0a3f7f6a2d11",
}

// KV is the store as go-plugin wants it; a host needs no Register.
type KV struct {
	plugin.NetRPCUnsupportedPlugin
	Register func(*grpc.Server)
}

// GRPCServer is called in the plugin.
func (kv KV) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	kv.Register(server)
	return nil
}

// GRPCClient is called in the host.
func (kv KV) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return kvpb.NewKVClient(conn), nil
}
