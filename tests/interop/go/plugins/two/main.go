// two serves two interfaces in two versions of its protocol, or in those that its arguments name.
package main

import (
	"os"
	"strconv"

	plugin "github.com/hashicorp/go-plugin"

	"interop/internal/services"
)

func main() {
	versions := []int{1, 2}
	if len(os.Args) > 1 {
		versions = nil
		for _, argument := range os.Args[1:] {
			version, err := strconv.Atoi(argument)
			if err != nil {
				panic(err)
			}
			versions = append(versions, version)
		}
	}
	sets := map[int]plugin.PluginSet{}
	for _, version := range versions {
		sets[version] = services.Set(map[string]services.Register{
			"kv":      services.RegisterKV,
			"greeter": services.RegisterGreeter(version),
		})
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  services.Handshake,
		VersionedPlugins: sets,
		GRPCServer:       plugin.DefaultGRPCServer,
	})
}
