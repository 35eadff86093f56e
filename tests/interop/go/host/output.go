package main

import (
	"bytes"
	"context"
	"time"

	"interop/internal/interoppb"
)

// exerciseStdio has the plugin print bytes that are no text, and waits until they have come.
func exerciseStdio(s *session) {
	stdio := interoppb.NewStdioClient(s.connection("stdio").Conn)
	stdout := bytes.Repeat([]byte("out \x00\xff\r\n"), s.settings.size/8+1)
	stderr := bytes.Repeat([]byte("err \xfe\n no newline at the end"), s.settings.size/26+1)
	s.call("print", func(ctx context.Context) (fields, error) {
		_, err := stdio.Print(ctx, &interoppb.Prints{Stdout: stdout, Stderr: stderr})
		return nil, err
	})
	s.step("stdio", func() (fields, error) {
		s.stdouts.await(len(stdout), 2*time.Second)
		s.stderrs.await(len(stderr), 2*time.Second)
		more := fields{
			"stdout_sent": len(stdout), "stdout_same": bytes.Equal(s.stdouts.bytes(), stdout),
			"stderr_sent": len(stderr), "stderr_same": bytes.Equal(s.stderrs.bytes(), stderr),
		}
		// As JSON has bytes: base64.
		if s.settings.size <= 4096 {
			more["stdout"], more["stderr"] = s.stdouts.bytes(), s.stderrs.bytes()
		}
		return more, nil
	})
}

// exerciseLogs has the plugin log in every way; the records are printed when it has ended.
func exerciseLogs(s *session) {
	s.settings.printLogs = true
	logs := interoppb.NewLogsClient(s.connection("logs").Conn)
	for _, level := range []string{"trace", "debug", "info", "warn", "error"} {
		s.call("log", func(ctx context.Context) (fields, error) {
			line := &interoppb.LogLine{
				Level: level, Message: "logged at " + level, Fields: map[string]string{"key": "välue", "number": "1"},
			}
			_, err := logs.Log(ctx, line)
			return nil, err
		})
	}
	s.call("raw", func(ctx context.Context) (fields, error) {
		_, err := logs.Raw(ctx, &interoppb.Prints{
			Stdout: []byte("raw on descriptor 1\n"),
			Stderr: []byte("raw text\n[WARN] raw warning\n[ERR] no level\n  [ERROR] indented\n\xff\xfe no text\n" +
				`{"@level":"warning","@message":"not a level of hclog"}` + "\n[1, 2]\n"),
		})
		return nil, err
	})
	if s.settings.panics {
		s.call("panic", func(ctx context.Context) (fields, error) {
			_, err := logs.Panic(ctx, &interoppb.Name{Name: "nobody catches this"})
			// The call must fail, and how it does is worth knowing.
			return fields{"text": err.Error()}, nil
		})
	}
}

// printRecords prints what the host's logger was given, and the plugin's stderr as it was.
func (s *session) printRecords() {
	for _, record := range s.logs.records() {
		s.step("record", func() (fields, error) { return fields{"record": record}, nil })
	}
	s.step("stderr", func() (fields, error) { return fields{"stderr": s.stderr.bytes()}, nil })
}
