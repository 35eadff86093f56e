package main

import (
	"context"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin/examples/grpc/proto"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/metadata"
)

const timeout = 5 * time.Second

var key = strings.Repeat("k", 100)

// A workload as benchmarks/driver.py has it: "unary", or "dressed" with a deadline and two items of metadata.
type workload struct {
	Kind     string  `json:"kind"`
	InFlight int     `json:"in_flight"`
	Seconds  float64 `json:"seconds"`
}

type bench struct {
	kv      proto.KVClient
	pid     int
	numbers atomic.Int64
}

func (b *bench) get() ([]byte, error) {
	return b.getIn(context.Background())
}

func (b *bench) getIn(ctx context.Context) ([]byte, error) {
	reply, err := b.kv.Get(ctx, &proto.GetRequest{Key: key})
	return reply.GetValue(), err
}

func (b *bench) getDressed() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	number := strconv.FormatInt(b.numbers.Add(1), 10)
	return b.getIn(metadata.AppendToOutgoingContext(ctx, "x-request-id", number, "x-tenant", "gold"))
}

// do keeps calls under way, as many callers, each of which calls again at once.
func (b *bench) do(w workload) (map[string]float64, error) {
	call := b.get
	if w.Kind == "dressed" {
		call = b.getDressed
	}
	latencies, errs := make([][]float64, w.InFlight), make([]error, w.InFlight)
	clientCPU, serverCPU := cpuSeconds(os.Getpid()), cpuSeconds(b.pid)
	begun := time.Now()
	var callers sync.WaitGroup
	for caller := range w.InFlight {
		callers.Go(func() {
			for now := begun; ; {
				if _, errs[caller] = call(); errs[caller] != nil {
					return
				}
				done := time.Now()
				latencies[caller] = append(latencies[caller], done.Sub(now).Seconds())
				now = done
				if now.Sub(begun).Seconds() >= w.Seconds {
					return
				}
			}
		})
	}
	callers.Wait()
	seconds := time.Since(begun).Seconds()
	clientCPU, serverCPU = cpuSeconds(os.Getpid())-clientCPU, cpuSeconds(b.pid)-serverCPU
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	all := slices.Concat(latencies...)
	slices.Sort(all)
	calls := float64(len(all))
	return map[string]float64{
		"calls":         calls,
		"calls_per_s":   calls / seconds,
		"p50_us":        percentile(all, 0.50) * 1e6,
		"p99_us":        percentile(all, 0.99) * 1e6,
		"cpu_us":        (clientCPU + serverCPU) / calls * 1e6,
		"client_cpu_us": clientCPU / calls * 1e6,
		"server_cpu_us": serverCPU / calls * 1e6,
	}, nil
}

func percentile(ordered []float64, share float64) float64 {
	return ordered[int(math.Ceil(share*float64(len(ordered))))-1]
}

// cpuSeconds reads a process's own clock; its number is made as clock_getcpuclockid(3) makes it.
func cpuSeconds(pid int) float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &now); err != nil {
		return math.NaN()
	}
	return float64(now.Nano()) / 1e9
}
