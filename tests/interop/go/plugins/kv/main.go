// kv serves the key/value store of go-plugin's own example.
package main

import "interop/internal/services"

func main() {
	services.Serve(map[string]services.Register{"kv": services.RegisterKV})
}
