package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	maxRedirects   = 5
	maxHeaderBytes = 64 << 10
	maxErrorBytes  = 64 << 10
	maxPlainBytes  = 4 << 20 // of a body that is no range: a listing of 1,000 names
)

// Config says where requests may go. The zero Config: to the host that was named, and nowhere else.
type Config struct {
	// FollowRedirects to other hosts, without credentials. One from https to http is never followed.
	FollowRedirects bool

	// AllowPrivate lets redirects and names that were public lead to private, loopback and link-local
	// addresses.
	AllowPrivate bool

	// KeepMethod follows only redirects that are meant for any method (307, 308): S3 says with the
	// others that a bucket lies in another region.
	KeepMethod bool

	// TLS may be nil.
	TLS *tls.Config
}

// ErrDirectory: the server redirects to a directory's name. It is no object.
var ErrDirectory = errors.New("it is a directory")

// NewClient makes a client that keeps connections for many requests at once. They end some time after
// the last request, or with CloseIdleConnections.
func NewClient(cfg Config) *http.Client {
	g := &guard{allowPrivate: cfg.AllowPrivate, proxy: http.ProxyFromEnvironment, near: make(map[string]bool)}
	t := &transport{guard: g, base: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            g.dial,
		TLSClientConfig:        cfg.TLS,
		TLSHandshakeTimeout:    connectTimeout,
		ResponseHeaderTimeout:  time.Minute,
		DisableCompression:     true, // A range of something compressed is no range of the object.
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true,
		// A connection that carries many requests and has died must not hold them all up.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}}
	return &http.Client{
		Transport: t,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			return checkRedirect(cfg, g, req, via)
		},
	}
}

// transport is an http.Transport whose answers are bounded and whose addresses are guarded.
type transport struct {
	guard *guard
	base  *http.Transport
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	// Response is set on requests that follow a redirect.
	if req.Response == nil {
		if err := t.guard.meet(req.Context(), req); err != nil {
			return nil, err
		}
	} else if _, err := t.guard.meetProxy(req); err != nil {
		return nil, err
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		// Ranges are read as far as was asked for.
	case resp.StatusCode < 300:
		resp.Body = &bounded{resp.Body, maxPlainBytes}
	default:
		resp.Body = &bounded{resp.Body, maxErrorBytes}
	}
	return resp, nil
}

// CloseIdleConnections is found by http.Client.CloseIdleConnections.
func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// bounded is a body that fails when it goes on beyond its bound.
type bounded struct {
	io.ReadCloser
	left int
}

var errTooLong = &refusal{"the answer is longer than any that was asked for"}

func (b *bounded) Read(p []byte) (int, error) {
	// One byte beyond the bound tells a body that ends there from one that goes on.
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

func checkRedirect(cfg Config, g *guard, req *http.Request, via []*http.Request) error {
	from, to := via[0].URL, req.URL
	if cfg.KeepMethod {
		switch req.Response.StatusCode {
		case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return http.ErrUseLastResponse
		}
	}
	to.User = nil
	addr := canonicalAddr(to)
	elsewhere := addr != canonicalAddr(from) || to.Scheme != from.Scheme
	if elsewhere && from.Scheme == "http" && to.Scheme == "https" && from.Port() == "" && to.Port() == "" {
		elsewhere = !strings.EqualFold(from.Hostname(), to.Hostname())
	}
	switch {
	case len(via) > maxRedirects:
		return &refusal{fmt.Sprintf("the server redirects more than %d times", maxRedirects)}
	case to.Scheme != "https" && (from.Scheme == "https" || to.Scheme != "http"):
		return &refusal{"the server redirects to an address that is not https: refused"}
	case elsewhere && !cfg.FollowRedirects:
		return &refusal{fmt.Sprintf("the server redirects to another host, %s: name that in the address, or allow redirects", to.Host)}
	case !elsewhere && to.Path == via[len(via)-1].URL.Path+"/":
		return ErrDirectory
	}
	// A proxy would make the connection where the guard does not see it. A name it resolves itself.
	if a, err := netip.ParseAddr(to.Hostname()); err == nil && private(a) && !g.mayBePrivate(addr) {
		return refusePrivate(to.Host, a)
	}
	if elsewhere {
		for name := range req.Header {
			if name == "Authorization" || name == "Cookie" || strings.HasPrefix(name, "X-Amz-") {
				req.Header.Del(name)
			}
		}
	}
	// It would tell the query of the request before.
	req.Header.Del("Referer")
	return nil
}

// Drain reads the rest of a body that is no range and closes it, so that its connection is used again.
func Drain(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, maxErrorBytes))
	body.Close()
}
