package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

type fields map[string]any

// A report prints one line for each step.
type report struct {
	out      io.Writer
	patience time.Duration
	quiet    bool
	failures int
	lock     sync.Mutex
	// What is to be killed when a step does not end.
	pid int
}

type step struct {
	report *report
	name   string
	begun  time.Time
}

func (r *report) begin(name string, at time.Time) step {
	return step{r, name, at}
}

// step does one thing and says how it went; whether it went well. A thing that does not end ends the program.
func (r *report) step(name string, do func() (fields, error)) bool {
	step := r.begin(name, time.Now())
	overdue := time.AfterFunc(r.patience, func() {
		step.end(nil, fmt.Errorf("not done within %s", r.patience))
		if r.pid > 0 {
			if process, err := os.FindProcess(r.pid); err == nil {
				_ = process.Kill()
			}
		}
		os.Exit(3)
	})
	more, err := do()
	if !overdue.Stop() {
		select {}
	}
	step.end(more, err)
	return err == nil
}

func (s step) end(more fields, err error) {
	s.report.lock.Lock()
	defer s.report.lock.Unlock()
	line := fields{"step": s.name, "ok": err == nil, "seconds": round(time.Since(s.begun))}
	for key, value := range more {
		line[key] = value
	}
	if err != nil {
		s.report.failures++
		line["error"] = err.Error()
		if state, isStatus := status.FromError(err); isStatus {
			line["code"] = state.Code().String()
			line["error"] = state.Message()
		}
	}
	if s.report.quiet && err == nil {
		return
	}
	if err := json.NewEncoder(s.report.out).Encode(line); err != nil {
		panic(err)
	}
}

func round(duration time.Duration) float64 {
	return float64(duration.Round(100*time.Microsecond).Microseconds()) / 1e6
}
