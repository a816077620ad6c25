// Package https is a directory of a web server as a source of tiles.
//
// # Objective
//
// Any server that sends files, and ranges of them, will do: nginx, Apache, a bucket's public
// address, a signed URL. It cannot be listed, so what there is must be known from a manifest.
//
// # What is asked of the server
//
// A range (206 Partial Content) of the object, and an ETag or Last-Modified to tell its states apart
// by; package web has the rules. A server that answers 200 to a range is refused: what it sends is
// the whole object, and is not read. 404 says that there is no object.
//
// # What an address may have
//
// A query goes with every request, as signed URLs need it; a user and a password become basic
// authentication. Neither is in String, nor in any error. http:// is allowed where it is written so.
//
// Redirects within the server are followed, and those from http to https on the same host. Others
// are refused unless Config allows them, and then neither the password nor the query goes along.
package https

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/internal/web"
)

var _ source.Source = (*Source)(nil)

// Config says which directory of which server, and how to reach it. Only URL is needed.
type Config struct {
	URL string // of the archive's top directory

	FollowRedirects bool // to other hosts, without credentials
	AllowPrivate    bool // lets redirects and public names lead to private addresses

	PrefixBytes int // that opening an object brings along; 0 for 32 KiB
}

// Source is what lies under a URL.
type Source struct {
	cfg  Config
	base *url.URL // without user, and without a slash at the end
	user *url.Userinfo
	name string
	http *http.Client
}

// Name is what String says of a source with this configuration.
func Name(cfg Config) (string, error) {
	base, _, err := parse(cfg.URL)
	if err != nil {
		return "", err
	}
	return nameOf(base), nil
}

// parse does not show what it refuses: there may be a password in it.
func parse(address string) (base *url.URL, user *url.Userinfo, err error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, nil, fmt.Errorf("not a URL of a web server: write https://host/path: %w", fs.ErrInvalid)
	case u.Fragment != "":
		return nil, nil, fmt.Errorf("%s: a URL of an archive has no fragment (#): %w", nameOf(u), fs.ErrInvalid)
	}
	user, u.User = u.User, nil
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/")
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, nil, fmt.Errorf("not a URL of a web server: write https://host/path: %w", fs.ErrInvalid)
	}
	return u, user, nil
}

// nameOf is a URL without all that may be secret.
func nameOf(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// Open takes what is under a URL as a source. It asks for the directory, and fails where nothing
// answers, where the server fails, and where it asks for a password (fs.ErrPermission). Whether there
// is an archive under the URL is not known yet: servers answer 403 or 404 for a directory that has one.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	base, user, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.PrefixBytes <= 0 {
		cfg.PrefixBytes = web.DefaultPrefix
	}
	s := &Source{cfg: cfg, base: base, user: user, name: nameOf(base)}
	s.http = web.NewClient(web.Config{FollowRedirects: cfg.FollowRedirects, AllowPrivate: cfg.AllowPrivate})
	err = web.Insist(ctx, func() error { return s.ask(ctx) })
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s, nil
}

// ask asks for the directory.
func (s *Source) ask(ctx context.Context) error {
	_, err := store{s}.do(ctx, http.MethodHead, "", nil)
	var f *web.Failure
	if !errors.As(err, &f) {
		return err
	}
	switch f.Status {
	case http.StatusUnauthorized:
		if s.user != nil {
			return fmt.Errorf("the server does not take this user and password: %w", err)
		}
		return fmt.Errorf("the server asks for a password: write https://user:password@host/path: %w", err)
	case http.StatusProxyAuthRequired:
		return fmt.Errorf("the proxy asks for a password: write it into HTTPS_PROXY: %w", err)
	}
	if errors.As(err, new(*source.Transient)) && f.Status != http.StatusNotImplemented {
		return err
	}
	return nil
}

// String is the URL without user, password and query.
func (s *Source) String() string { return s.name }

// Open finds an object, with one request. Its errors name the object's URL.
func (s *Source) Open(ctx context.Context, name string) (source.Object, error) {
	return web.Open(ctx, store{s}, name, s.cfg.PrefixBytes)
}

// Unchanged implements source.Revalidator, with one request.
func (s *Source) Unchanged(ctx context.Context, name string, info source.Info) (bool, error) {
	return web.Unchanged(ctx, store{s}, name, info)
}

// List always fails, with errors.ErrUnsupported: web servers have no listings that programs read.
func (s *Source) List(ctx context.Context, name string, _ bool) ([]source.Entry, error) {
	if err := web.CheckName(ctx, "list", name); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("list %s: a web server cannot be listed: %w", store{s}.Path(name), errors.ErrUnsupported)
}

// Close ends connections that are not in use.
func (s *Source) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

// store makes the requests of objects.
type store struct{ *Source }

func (s store) Path(name string) string { return s.name + "/" + name }

func (s store) Get(ctx context.Context, req web.Request) (*web.Answer, error) {
	header := http.Header{"Range": {req.Range()}}
	switch {
	case req.IfMatch != "":
		header.Set("If-Match", req.IfMatch)
	case !req.IfUnmodifiedSince.IsZero():
		header.Set("If-Unmodified-Since", req.IfUnmodifiedSince.UTC().Format(http.TimeFormat))
	case req.IfNoneMatch != "":
		header.Set("If-None-Match", req.IfNoneMatch)
	}
	return s.do(ctx, http.MethodGet, req.Name, header)
}

func (s store) Head(ctx context.Context, name string) (*web.Answer, error) {
	return s.do(ctx, http.MethodHead, name, nil)
}

func (s store) do(ctx context.Context, method, name string, header http.Header) (*web.Answer, error) {
	u := *s.base
	u.Path += "/" + name
	u.RawPath += "/" + (&url.URL{Path: name}).EscapedPath()
	req := (&http.Request{
		Method: method, URL: &u, Host: u.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "tesserafs")
	if s.user != nil {
		password, _ := s.user.Password()
		req.SetBasicAuth(s.user.Username(), password)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, web.Explain(ctx, err)
	}
	if method == http.MethodHead || resp.StatusCode/100 != 2 {
		// Little enough to read, so that the connection is used again.
		web.Drain(resp.Body)
	}
	if resp.StatusCode/100 != 2 {
		return nil, web.Refused(resp.StatusCode, "", resp.Header)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		resp.Body.Close()
		return nil, errors.New("the server compresses what it sends, though asked not to: switch that off for the archive")
	}
	modTime, _ := http.ParseTime(resp.Header.Get("Last-Modified")) // the zero time where there is none
	return &web.Answer{
		ContentRange: contentRange(resp), Length: resp.ContentLength,
		ETag: resp.Header.Get("ETag"), ModTime: modTime, Body: resp.Body,
	}, nil
}

// contentRange counts in 206 only (RFC 9110, 14.4).
func contentRange(resp *http.Response) string {
	if resp.StatusCode != http.StatusPartialContent {
		return ""
	}
	return resp.Header.Get("Content-Range")
}
