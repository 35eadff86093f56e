// logs logs what it is told: through hclog, to the bare descriptors, and by a panic. `logs text` logs as text.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"

	"interop/internal/services"
)

func main() {
	logger := hclog.New(&hclog.LoggerOptions{
		Name:       "peer",
		Level:      hclog.Trace,
		Output:     os.Stderr,
		JSONFormat: len(os.Args) < 2 || os.Args[1] != "text",
	})
	services.Serve(map[string]services.Register{"logs": services.RegisterLogs(logger)})
}
