// host runs one plugin the way hosts built with go-plugin do, and prints one JSON object for each step.
//
//	host kv -auto-mtls -- python plugin.py
//
// Every step has "step", "ok" and "seconds"; one that failed has "error", go-plugin's or gRPC's text, and "code" if it is
// gRPC's. The exit status is 0 when every step was ok, 1 when one was not, 3 when one did not end.
package main

import (
	"fmt"
	"os"
	"sort"
	"time"
)

// An exercise is what is done with a plugin between its start and its end.
var exercises = map[string]func(*session){
	"kv":         exerciseKV,
	"counter":    exerciseCounter,
	"lend":       exerciseLend,
	"nobody":     exerciseNobody,
	"streaming":  exerciseStreaming,
	"two":        exerciseTwo,
	"stdio":      exerciseStdio,
	"logs":       exerciseLogs,
	"ping":       exercisePing,
	"reflection": exerciseReflection,
	"kill":       exerciseKill,
	"reattach":   exerciseReattach,
	"strangers":  exerciseStrangers,
}

func main() {
	if len(os.Args) < 2 || exercises[os.Args[1]] == nil {
		var names []string
		for name := range exercises {
			names = append(names, name)
		}
		sort.Strings(names)
		fmt.Fprintln(os.Stderr, "usage: host EXERCISE [flags] -- COMMAND ..., where EXERCISE is one of", names)
		os.Exit(2)
	}
	settings := parseSettings(os.Args[2:])
	report := &report{out: os.Stdout, patience: settings.patience}
	exercise := exercises[os.Args[1]]
	if settings.loop == 0 {
		run(settings, report, exercise)
	} else {
		loop(settings, report, exercise)
	}
	if report.failures > 0 {
		os.Exit(1)
	}
}

// loop runs many lives, and reports only the steps that failed and one line for all.
func loop(settings *settings, report *report, exercise func(*session)) {
	report.quiet = true
	begun := time.Now()
	for range settings.loop {
		run(settings, report, exercise)
	}
	report.quiet = false
	failed := report.failures
	report.begin("loop", begun).end(fields{"lives": settings.loop, "failed_steps": failed}, nil)
}

// run starts the plugin, does the exercise and ends the plugin.
func run(settings *settings, report *report, exercise func(*session)) {
	session := newSession(settings, report)
	if session.start() {
		exercise(session)
	}
	session.finish()
}
