package patient

import (
	"log/slog"
	"time"
)

// Config says how patient a Source is. A field that is zero has its default.
type Config struct {
	// FirstByte is how long a request may take until its first byte comes: 15 s.
	FirstByte time.Duration
	// Stall is how long it may then pause between two bytes: 10 s. Only a Progressive object shows that,
	// and a stream, which may pause less where the source has shown its pace.
	Stall time.Duration
	// Slowest is how many bytes a second a request may come by: 16 KiB. A request may take FirstByte
	// and its bytes at this pace, a call Patience and the same.
	Slowest int64
	// Patience is how long a call may take, the wait for its turn and its retries among it: 60 s.
	Patience time.Duration
	// Listing is how long a listing may take, which is thousands of requests in a large bucket: 5 min.
	Listing time.Duration

	// Backoff is the longest pause before the first retry: 100 ms. It doubles with each retry, up to
	// MaxBackoff (5 s), and the pause is a random part of it.
	Backoff, MaxBackoff time.Duration

	// Hedged is the share of requests that may be sent twice: 0.05. Below 0 none is.
	Hedged float64

	// InFlight is how many requests may be under way at once: 64. A stream is one until it ends, however
	// long its reader pauses.
	InFlight int

	// Failures in a row, with no answer between them, make the source dead when the first of them
	// began DeadAfter ago: 3, and 10 s. A shorter trouble is a matter of retries.
	Failures  int
	DeadAfter time.Duration
	// Probe is the pause before a dead source is asked again: 2 s. It doubles, up to 4 times that.
	Probe time.Duration

	// Log is told when the source dies and when it lives again. Nil: nobody is.
	Log *slog.Logger
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.FirstByte, 15 * time.Second},
		{&c.Stall, 10 * time.Second},
		{&c.Patience, time.Minute},
		{&c.Listing, 5 * time.Minute},
		{&c.Backoff, 100 * time.Millisecond},
		{&c.MaxBackoff, 5 * time.Second},
		{&c.DeadAfter, 10 * time.Second},
		{&c.Probe, 2 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Slowest <= 0 {
		c.Slowest = 16 << 10
	}
	if c.Hedged == 0 {
		c.Hedged = 0.05
	}
	if c.InFlight <= 0 {
		c.InFlight = 64
	}
	if c.Failures <= 0 {
		c.Failures = 3
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// transfer is how long bytes may take to come.
func (c Config) transfer(bytes int64) time.Duration {
	return time.Duration(float64(bytes) / float64(c.Slowest) * float64(time.Second))
}
