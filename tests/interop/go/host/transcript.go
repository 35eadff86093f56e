package main

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
)

// A transcript keeps what is written to it.
type transcript struct {
	lock    sync.Mutex
	grown   *sync.Cond
	content bytes.Buffer
}

func newTranscript() *transcript {
	t := &transcript{}
	t.grown = sync.NewCond(&t.lock)
	return t
}

func (t *transcript) Write(data []byte) (int, error) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.grown.Broadcast()
	return t.content.Write(data)
}

func (t *transcript) bytes() []byte {
	t.lock.Lock()
	defer t.lock.Unlock()
	return bytes.Clone(t.content.Bytes())
}

// await waits until there is so much, or for so long; whether there is.
func (t *transcript) await(size int, patience time.Duration) bool {
	deadline := time.Now().Add(patience)
	waker := time.AfterFunc(patience, t.grown.Broadcast)
	defer waker.Stop()
	t.lock.Lock()
	defer t.lock.Unlock()
	for t.content.Len() < size && time.Now().Before(deadline) {
		t.grown.Wait()
	}
	return t.content.Len() >= size
}

// records are the lines as JSON objects.
func (t *transcript) records() []map[string]any {
	var records []map[string]any
	for _, line := range bytes.Split(t.bytes(), []byte("\n")) {
		record := map[string]any{}
		if json.Unmarshal(line, &record) == nil {
			records = append(records, record)
		}
	}
	return records
}

func (t *transcript) find(message string) map[string]any {
	for _, record := range t.records() {
		if record["@message"] == message {
			return record
		}
	}
	return nil
}

func (t *transcript) contains(message string) bool {
	return t.find(message) != nil
}
