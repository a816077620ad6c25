//go:build race

package faults_test

// raced: the race detector looks on. All takes longer, and memory that is resident is its own as well.
const (
	raced  = true
	slower = 4
)
