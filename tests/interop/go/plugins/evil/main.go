// evil misbehaves in the way that its first argument names; in all else it is the kv plugin.
package main

import (
	"fmt"
	"os"
	"sort"
)

// A misbehaviour takes the arguments after its name and returns when the plugin is to end.
var misbehaviours = map[string]func(arguments []string){
	// Before or instead of a handshake.
	"line":          printLine,
	"line-and-exit": printLineAndExit,
	"silent":        func([]string) { select {} },
	"exit":          exit,
	"noise":         printNoise,
	"netrpc":        serveNetRPC,
	"version":       serveVersion,
	"unasked-cert":  serveWithUnaskedCertificate,
	// Once it serves.
	"not-serving":    serveNotServing,
	"without":        serveWithout,
	"slow-shutdown":  serveSlowShutdown,
	"ignore-signals": serveIgnoringSignals,
	"grandchild":     serveWithGrandchild,
	// At the first Put.
	"message-number": writeMessageNumber,
	"long-line":      writeLongLine,
	"crash":          crash,
}

func main() {
	if len(os.Args) > 1 {
		if misbehave, known := misbehaviours[os.Args[1]]; known {
			misbehave(os.Args[2:])
			return
		}
	}
	var names []string
	for name := range misbehaviours {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintln(os.Stderr, "usage: evil", names)
	os.Exit(2)
}

func argument(arguments []string, otherwise string) string {
	if len(arguments) > 0 {
		return arguments[0]
	}
	return otherwise
}
