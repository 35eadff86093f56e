package main

import (
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"strconv"

	plugin "github.com/hashicorp/go-plugin"

	"interop/internal/certificates"
	"interop/internal/services"
)

var kv = map[string]services.Register{"kv": services.RegisterKV}

// printLine prints its argument as the handshake, and waits to be killed.
func printLine(arguments []string) {
	fmt.Println(argument(arguments, "hello"))
	select {}
}

// printLineAndExit prints its argument as the handshake, and ends.
func printLineAndExit(arguments []string) {
	fmt.Println(argument(arguments, "hello"))
}

// exit ends with the given status and a word on stderr.
func exit(arguments []string) {
	fmt.Fprintln(os.Stderr, "evil: I would rather not")
	status, err := strconv.Atoi(argument(arguments, "1"))
	if err != nil {
		panic(err)
	}
	os.Exit(status)
}

// printNoise prints a line before the handshake.
func printNoise(arguments []string) {
	fmt.Println(argument(arguments, "loading ..."))
	services.Serve(kv)
}

// serveVersion serves only a version of the protocol that hosts do not ask for.
func serveVersion(arguments []string) {
	version, err := strconv.Atoi(argument(arguments, "7"))
	if err != nil {
		panic(err)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  services.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{version: services.Set(kv)},
		GRPCServer:       plugin.DefaultGRPCServer,
	})
}

// serveWithUnaskedCertificate serves mTLS to a host that did not ask for it, and says so in the handshake.
func serveWithUnaskedCertificate([]string) {
	stale, err := certificates.New()
	if err != nil {
		panic(err)
	}
	os.Setenv("PLUGIN_CLIENT_CERT", string(stale.PEM))
	services.Serve(kv)
}

// serveNetRPC serves go-plugin's older protocol only.
func serveNetRPC([]string) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: services.Handshake,
		Plugins:         plugin.PluginSet{"kv": netRPC{}},
	})
}

type netRPC struct{}

func (netRPC) Server(*plugin.MuxBroker) (any, error) {
	return &struct{}{}, nil
}

func (netRPC) Client(*plugin.MuxBroker, *rpc.Client) (any, error) {
	return nil, errors.New("nobody should come this far")
}
