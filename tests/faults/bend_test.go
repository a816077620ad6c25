package faults_test

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bend answers one request, with or without asking the server.
type bend func(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc)

// bender stands before a server and changes what it says.
type bender struct {
	addr string
	now  atomic.Pointer[bend]
}

// newBender stands before a server until the test ends.
func newBender(t *testing.T, server string) *bender {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		// A server that is dead breaks the connection.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	b := &bender{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bend := b.now.Load(); bend != nil {
			(*bend)(w, r, proxy.ServeHTTP)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	b.addr = s.Listener.Addr().String()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
	return b
}

// set bends all answers from now on; nil leaves them as they are.
func (b *bender) set(how bend) {
	if how == nil {
		b.now.Store(nil)
		return
	}
	b.now.Store(&how)
}

// sometimes bends a share of the answers.
func sometimes(share float64, how bend) bend {
	return func(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
		if rand.Float64() < share {
			how(w, r, ask)
			return
		}
		ask(w, r)
	}
}

// arrays bends answers about arrays.
func arrays(how bend) bend {
	return func(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, ".npy") {
			how(w, r, ask)
			return
		}
		ask(w, r)
	}
}

// refusing answers with a status.
func refusing(status int, retryAfter string) bend {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(status)
	}
}

// closing ends the connection after the answer, so that the next request takes a new one.
func closing(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
	ask(&bent{ResponseWriter: w, header: func(h http.Header) { h.Set("Connection", "close") }}, r)
}

// silent answers late.
func silent(pause time.Duration) bend {
	return func(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
		wait(r, pause)
		ask(w, r)
	}
}

// stalled pauses somewhere in the body.
func stalled(pause time.Duration) bend {
	return func(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
		ask(&bent{ResponseWriter: w, cut: true, then: func() {
			_ = http.NewResponseController(w).Flush()
			wait(r, pause)
		}}, r)
	}
}

// truncated breaks the connection off somewhere in the body.
func truncated(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
	ask(&bent{ResponseWriter: w, cut: true, then: func() {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}}, r)
}

func wait(r *http.Request, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-r.Context().Done():
	}
}

// whole answers with the whole object, as servers do that know no ranges.
func whole(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
	r.Header.Del("Range")
	ask(w, r)
}

// elsewhere answers with another range than was asked for, and says so.
func elsewhere(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
	var first, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err == nil && first > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first-1, last-1))
	}
	ask(w, r)
}

// shifted says of the right bytes that they are others.
func shifted(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
	ask(&bent{ResponseWriter: w, header: ranges(func(first, last, size int64) (int64, int64, int64) {
		by := min(16<<10, size-1-last)
		if by == 0 {
			by = -min(first, 16<<10)
		}
		return first + by, last + by, size
	})}, r)
}

// grown says that the object has become longer.
func grown(w http.ResponseWriter, r *http.Request, ask http.HandlerFunc) {
	ask(&bent{ResponseWriter: w, header: ranges(func(first, last, size int64) (int64, int64, int64) {
		return first, last, size + 1
	})}, r)
}

// ranges changes a Content-Range.
func ranges(change func(first, last, size int64) (int64, int64, int64)) func(http.Header) {
	return func(h http.Header) {
		var first, last, size int64
		if _, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err == nil {
			first, last, size = change(first, last, size)
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
		}
	}
}

// bent is an answer on its way.
type bent struct {
	http.ResponseWriter
	header func(http.Header) // changes it; nil: nothing does
	cut    bool              // then is called once, somewhere in the body
	then   func()
	left   int // bytes until that
}

func (b *bent) WriteHeader(status int) {
	if b.header != nil {
		b.header(b.Header())
	}
	if b.cut {
		length := 1
		fmt.Sscan(b.Header().Get("Content-Length"), &length)
		b.left = rand.IntN(max(1, length))
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *bent) Write(p []byte) (int, error) {
	if !b.cut || len(p) <= b.left {
		b.left -= len(p)
		return b.ResponseWriter.Write(p)
	}
	b.cut = false
	n, err := b.ResponseWriter.Write(p[:b.left])
	if err != nil {
		return n, err
	}
	b.then()
	rest, err := b.ResponseWriter.Write(p[n:])
	return n + rest, err
}

// Unwrap is for http.ResponseController.
func (b *bent) Unwrap() http.ResponseWriter { return b.ResponseWriter }
