#!/bin/sh
# Generates the committed Go code. Needs Go, and protoc from the Python package grpcio-tools.
set -eu
cd "$(dirname "$0")"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOBIN="$tools" go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN="$tools" go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
PATH="$tools:$PATH" "${PYTHON:-python}" -m grpc_tools.protoc -I proto \
    --go_out=. --go_opt=module=interop --go-grpc_out=. --go-grpc_opt=module=interop --go-grpc_opt=require_unimplemented_servers=false \
    kv.proto interop.proto
