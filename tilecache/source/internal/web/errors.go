package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/tesserafs/tesserafs/tilecache/source"
)

const maxRetryAfter = time.Hour

// Failure is an answer that refuses. It is fs.ErrNotExist, fs.ErrPermission or source.ErrChanged
// where its status says so.
type Failure struct {
	Status int
	Code   string // S3's own word for it, where it has one
	is     error
}

func (f *Failure) Error() string {
	text := fmt.Sprintf("the server answers %d", f.Status)
	if known := http.StatusText(f.Status); known != "" {
		text += " " + known
	}
	if f.Code != "" {
		text += " (" + f.Code + ")"
	}
	return text
}

func (f *Failure) Unwrap() error { return f.is }

// Refused is the error of an answer with this status, and S3's code where there is one. It is a
// *Failure, in a *source.Transient where another try may fare better. The server's own words are not
// in it: they may repeat the request.
func Refused(status int, code string, header http.Header) error {
	f := &Failure{Status: status}
	if plainWord(code) {
		f.Code = code
	}
	switch status {
	case http.StatusNotFound, http.StatusGone:
		// That there is no bucket says nothing about the object.
		if code != "NoSuchBucket" {
			f.is = fs.ErrNotExist
		}
		return f
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		f.is = fs.ErrPermission
		return f
	case http.StatusPreconditionFailed:
		f.is = source.ErrChanged
		return f
	}
	busy := status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500
	if status == http.StatusBadRequest {
		switch code {
		case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
			f.is = fs.ErrPermission
		case "RequestTimeout":
			busy = true
		}
	}
	if busy {
		return &source.Transient{After: retryAfter(header), Err: f}
	}
	return f
}

// plainWord keeps out of errors what is no code.
func plainWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return len(s) <= 64
}

// retryAfter is the header's seconds, or the time until its date (RFC 9110, 10.2.3).
func retryAfter(header http.Header) time.Duration {
	text := header.Get("Retry-After")
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		after = time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = time.Until(at)
	}
	return min(max(after, 0), maxRetryAfter)
}

// Explain is the error of a request that had no answer, or whose body broke off, without its URL: the
// context's error where that has ended, a *source.Transient where another try may fare better.
func Explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var inURL *url.Error
	for errors.As(err, &inURL) {
		err = inURL.Err // Its text has the URL with its query.
	}
	var refused *refusal
	var dns *net.DNSError
	var untrusted *tls.CertificateVerificationError
	var network *net.OpError
	var timeout net.Error
	// What is underneath is left out: its text may repeat the request, and an errno of the connection
	// may pass for one of a file.
	fail := errors.New
	retry := func(what string) error { return &source.Transient{Err: errors.New(what)} }
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, ErrDirectory):
		return fmt.Errorf("%w: %w", ErrDirectory, fs.ErrNotExist)
	case errors.As(err, &dns):
		if dns.IsTemporary || dns.IsTimeout {
			return retry(fmt.Sprintf("the address of %s could not be looked up: the name server does not answer", dns.Name))
		}
		return fail(fmt.Sprintf("there is no host %s: check the address", dns.Name))
	case errors.As(err, &untrusted):
		return fail(fmt.Sprintf("the server's certificate is not trusted (%v): check the address, or name its authority's file in SSL_CERT_FILE or, for S3, AWS_CA_BUNDLE", untrusted.Err))
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, new(tls.RecordHeaderError)):
		return fail("the server does not speak TLS there: an http:// address may be meant")
	case errors.Is(err, syscall.ECONNREFUSED) && errors.As(err, &network) && network.Addr != nil:
		return retry(fmt.Sprintf("nothing answers at %s: connection refused", network.Addr))
	case errors.As(err, &timeout) && timeout.Timeout():
		return retry("the server does not answer in time")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return retry("the server cannot be reached: there is no route to it")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return retry("the connection broke off")
	}
	return retry("the connection broke off, or what came is not proper HTTP")
}

// Insist makes a call up to three times while it fails with a *source.Transient. It is for the first
// requests to a source, before anything else is patient with it.
func Insist(ctx context.Context, call func() error) error {
	err := call()
	for _, pause := range []time.Duration{250 * time.Millisecond, time.Second} {
		var t *source.Transient
		if !errors.As(err, &t) || t.After > 10*time.Second {
			return err
		}
		select {
		case <-time.After(max(pause, t.After)):
		case <-ctx.Done():
			return ctx.Err()
		}
		err = call()
	}
	return err
}
