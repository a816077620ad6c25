package mosaic

import (
	"sync"
)

// together calls f with 0 to n-1, all at once, and returns when all of them have, with the first error by
// number. A panic in one is its error: in a goroutine of its own it would end the process.
func together(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	errs := make([]error, n)
	var calls sync.WaitGroup
	for i := 1; i < n; i++ {
		calls.Go(func() {
			defer recoverAs("?", &errs[i])
			errs[i] = f(i)
		})
	}
	if n > 0 {
		defer calls.Wait() // also when this one panics
		errs[0] = f(0)
		calls.Wait()
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
