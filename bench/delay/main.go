// Command delay stands between a client and a server over HTTP: it adds a delay to each request, as a
// network would, and tells of each. It is for `make bench-remote`.
//
//	delay -add 30ms -to http://127.0.0.1:7070    forwards to a server, Host and path as they came, so that
//	                                             signatures hold
//	delay -add 30ms -dir STORE                   serves the files of a directory itself
//
// The first line of its output is its own address, on a free port of loopback. Then comes a line of JSON
// for each request when it has ended: method, path, range, status (0: the client left before there was
// one), bytes of the body that were sent, and when it came and ended, in seconds since the start. It ends with its standard input, so that it cannot outlive who started it.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

func main() {
	add := flag.Duration("add", 30*time.Millisecond, "what to add to each request")
	to := flag.String("to", "", "server to forward to")
	dir := flag.String("dir", "", "directory to serve instead")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("delay: ")

	var next http.Handler
	switch {
	case (*to == "") == (*dir == ""):
		log.Fatal("say either -to or -dir")
	case *dir != "":
		next = http.FileServer(http.Dir(*dir))
	default:
		server, err := url.Parse(*to)
		if err != nil || server.Host == "" {
			log.Fatalf("-to is an address such as http://127.0.0.1:7070, not %q", *to)
		}
		next = forward(server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, &delayed{next: next, add: *add, begun: time.Now(), out: json.NewEncoder(os.Stdout)}))
}

// forward passes requests on as they are, on as many connections as come.
func forward(server *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = server.Scheme, server.Host
			r.Out.Host = r.In.Host // it is signed
		},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, ReadBufferSize: 256 << 10},
		BufferPool: &buffers{},
		ErrorLog:   log.New(io.Discard, "", 0), // of bodies that break off
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // Clients that leave are no news.
				log.Printf("%s %s: %v", r.Method, r.URL.Path, err)
				w.WriteHeader(http.StatusBadGateway)
			}
		},
	}
}

// delayed adds a delay to each request, and tells of each.
type delayed struct {
	next  http.Handler
	add   time.Duration
	begun time.Time

	mu  sync.Mutex // guards out
	out *json.Encoder
}

// told is the line of a request.
type told struct {
	Method string  `json:"method"`
	Path   string  `json:"path"`
	Range  string  `json:"range"`
	Status int     `json:"status"`
	Bytes  int64   `json:"bytes"`
	Begun  float64 `json:"begun"`
	Ended  float64 `json:"ended"`
}

func (d *delayed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := told{Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range"), Begun: time.Since(d.begun).Seconds()}
	c := &counted{ResponseWriter: w}
	// ReverseProxy panics where a body breaks off.
	defer func() {
		t.Status, t.Bytes, t.Ended = c.status, c.bytes, time.Since(d.begun).Seconds()
		d.mu.Lock()
		defer d.mu.Unlock()
		if err := d.out.Encode(t); err != nil && !errors.Is(err, os.ErrClosed) {
			log.Fatal(err)
		}
	}()
	time.Sleep(d.add)
	d.next.ServeHTTP(c, r)
}

// counted counts the bytes of a body.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach what is underneath.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// buffers are for bodies on their way.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 256<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
