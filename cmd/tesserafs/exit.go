package main

import (
	"errors"
	"fmt"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitData        = 4
)

const exitHelp = `Exit codes: 0 done, 1 failed, 2 bad usage, 3 source unreachable, 4 data found wrong.`

// errSaid: what went wrong has been printed.
var errSaid = errors.New("see above")

// coded is an error that ends the process with a certain code.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &coded{exitUsage, fmt.Errorf(format, args...)}
}

// codeOf returns the exit code that an error asks for.
func codeOf(err error) int {
	var c *coded
	if errors.As(err, &c) {
		return c.code
	}
	return exitFailed
}
