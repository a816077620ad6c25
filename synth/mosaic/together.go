package mosaic

import (
	"sync"
)

// together calls f with 0 to n-1, all at once, and returns when all of them have, with the first error by
// number. A panic in one is its error: in a goroutine of its own it would end the process.
//
// Of a source that is near it is one after another: what each takes is less than handing it over does.
func (v *view) together(n int, f func(i int) error) error {
	if n == 1 || !v.distant {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
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
