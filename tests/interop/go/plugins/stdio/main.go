// stdio prints what it is told to os.Stdout and os.Stderr.
package main

import "interop/internal/services"

func main() {
	services.Serve(map[string]services.Register{"stdio": services.RegisterStdio})
}
