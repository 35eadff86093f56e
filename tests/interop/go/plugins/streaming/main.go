// streaming has a method of every streaming shape.
package main

import "interop/internal/services"

func main() {
	services.Serve(map[string]services.Register{"streaming": services.RegisterStreaming})
}
