// counter calls the host back through the broker, and has the host call it that way too.
package main

import "interop/internal/services"

func main() {
	services.Serve(map[string]services.Register{"counter": services.RegisterCounter})
}
