//go:build !race

package faults_test

const (
	raced  = false
	slower = 1
)
