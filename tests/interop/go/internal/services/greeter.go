package services

import (
	"context"
	"fmt"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"interop/internal/interoppb"
)

// Greeter greets in the words of one version of the application's protocol.
type Greeter struct {
	version int
}

// RegisterGreeter returns what adds the Greeter of a version.
func RegisterGreeter(version int) Register {
	return func(_ *plugin.GRPCBroker, server grpc.ServiceRegistrar) {
		interoppb.RegisterGreeterServer(server, Greeter{version})
	}
}

// Greet greets.
func (g Greeter) Greet(_ context.Context, name *interoppb.Name) (*interoppb.Greeting, error) {
	return &interoppb.Greeting{Text: fmt.Sprintf("version %d greets %s", g.version, name.Name)}, nil
}
