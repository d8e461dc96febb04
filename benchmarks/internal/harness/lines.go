package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// ReadLines reads a file of raw data, one JSON value after the other.
func ReadLines[T any](name string) (out []T, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var r T
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, r)
	}
}
