package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"go.uber.org/goleak"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/s3"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest"
	"github.com/tesserafs/tesserafs/tilecache/source/sourcetest/gateway"
)

func TestMain(m *testing.M) {
	gateway.Environment(func(name, value string) { os.Setenv(name, value) }, false)
	goleak.VerifyTestMain(m)
}

// open opens a source that is closed with the test.
func open(t *testing.T, cfg s3.Config) *s3.Source {
	t.Helper()
	s, err := s3.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// puts changes a bucket's objects through the gateway, which gives them ETags.
type puts struct {
	t      *testing.T
	g      *gateway.S3
	bucket string
}

func (p puts) Replace(name string, data []byte) {
	p.t.Helper()
	_, err := p.g.Client.PutObject(p.t.Context(), &sdk.PutObjectInput{Bucket: &p.bucket, Key: &name, Body: bytes.NewReader(data)})
	if err != nil {
		p.t.Fatal(err)
	}
}
func (p puts) Rewrite(name string, data []byte) { p.Replace(name, data) }
func (p puts) Delete(name string) {
	p.t.Helper()
	_, err := p.g.Client.DeleteObject(p.t.Context(), &sdk.DeleteObjectInput{Bucket: &p.bucket, Key: &name})
	if err != nil {
		p.t.Fatal(err)
	}
}

// Catches a source that does not keep the contract on a real gateway: without credentials and ETags,
// each read a request; with both, and what opening brings along.
func TestSuite(t *testing.T) {
	g := gateway.StartS3(t)
	var buckets atomic.Int64
	bucket := func() string { return fmt.Sprintf("bucket-%d", buckets.Add(1)) }
	t.Run("public", func(t *testing.T) {
		sourcetest.Test(t, func(t *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
			// What others put into a gateway's directory has no ETag.
			dir, name := t.TempDir(), bucket()
			g.Bucket(name, dir, true)
			f := sourcetest.NewFiles(t, filepath.Join(dir, "below/it"), objects)
			return open(t, s3.Config{Bucket: name, Prefix: "below/it", Endpoint: g.URL, PrefixBytes: 2}), f
		})
	})
	t.Run("private", func(t *testing.T) {
		gateway.Environment(t.Setenv, true)
		sourcetest.Test(t, func(t *testing.T, objects map[string][]byte) (source.Source, sourcetest.Mutator) {
			p := puts{t, g, bucket()}
			g.Bucket(p.bucket, t.TempDir(), false)
			for name, data := range objects {
				p.Replace(name, data)
			}
			return open(t, s3.Config{Bucket: p.bucket, Endpoint: g.URL}), p
		})
	})
}

// Catches a source that opens where it should not, in words that do not help or that tell a secret.
func TestOpen(t *testing.T) {
	g := gateway.StartS3(t)
	dir := t.TempDir()
	sourcetest.Files{T: t, Dir: dir}.Replace("deep/down/x", []byte{1})
	g.Bucket("private", dir, false)
	g.Bucket("public", dir, true)
	dead := gateway.StartS3(t)
	dead.Stop()
	for _, test := range []struct {
		name string
		env  map[string]string
		cfg  s3.Config
		says string // "" where it opens
		is   error
	}{
		{"public", nil, s3.Config{Bucket: "public", Endpoint: g.URL}, "", nil},
		{"public and anonymous", signed, s3.Config{Bucket: "public", Endpoint: g.URL, Anonymous: true}, "", nil},
		{"public, signed", signed, s3.Config{Bucket: "public", Endpoint: g.URL}, "", nil},
		{"signed", signed, s3.Config{Bucket: "private", Endpoint: g.URL, Prefix: "deep"}, "", nil},
		{"endpoint from the environment", with(signed, "AWS_ENDPOINT_URL", g.URL), s3.Config{Bucket: "private"}, "", nil},
		{"another region configured", with(signed, "AWS_REGION", "eu-west-9"), s3.Config{Bucket: "private", Endpoint: g.URL}, "", nil},
		{"unsigned", nil, s3.Config{Bucket: "private", Endpoint: g.URL}, "no credentials were found: set AWS_PROFILE", fs.ErrPermission},
		{"anonymous", signed, s3.Config{Bucket: "private", Endpoint: g.URL, Anonymous: true}, "not public: read it with credentials", fs.ErrPermission},
		{"wrong secret", with(signed, "AWS_SECRET_ACCESS_KEY", "another-secret"), s3.Config{Bucket: "private", Endpoint: g.URL}, "SignatureDoesNotMatch", fs.ErrPermission},
		{"wrong region", signed, s3.Config{Bucket: "private", Endpoint: g.URL, Region: "eu-west-9"}, "not in region eu-west-9", nil},
		{"no such bucket", signed, s3.Config{Bucket: "nowhere", Endpoint: g.URL}, "no such bucket: check its name", fs.ErrNotExist},
		{"nothing there", nil, s3.Config{Bucket: "public", Endpoint: g.URL, Prefix: "dee"}, "check the name, and the prefix", fs.ErrNotExist},
		{"no such host", nil, s3.Config{Bucket: "public", Endpoint: "http://no-such-host.invalid"}, "no host no-such-host.invalid", nil},
		{"nothing answers", nil, s3.Config{Bucket: "public", Endpoint: dead.URL}, "connection refused", nil},
		{"no TLS", nil, s3.Config{Bucket: "public", Endpoint: strings.Replace(g.URL, "http:", "https:", 1)}, "does not speak TLS", nil},
		{"no bucket", nil, s3.Config{Endpoint: g.URL}, "no bucket's name", fs.ErrInvalid},
		{"path as prefix", nil, s3.Config{Bucket: "public", Prefix: "../private", Endpoint: g.URL}, "prefix is no path", fs.ErrInvalid},
		{"secrets in the endpoint", nil, s3.Config{Bucket: "public", Endpoint: "http://user:" + gateway.SecretKey + "@127.0.0.1"}, "no user, password", fs.ErrInvalid},
		{"secrets in the environment's", map[string]string{"AWS_ENDPOINT_URL": "http://user:" + gateway.SecretKey + "@127.0.0.1"}, s3.Config{Bucket: "public"}, "no user, password", fs.ErrInvalid},
		{"no endpoint", nil, s3.Config{Bucket: "public", Endpoint: "127.0.0.1:80"}, "is no URL", fs.ErrInvalid},
		{"no region", nil, s3.Config{Bucket: "public", Endpoint: g.URL, Region: "x/../y"}, "no region's name", fs.ErrInvalid},
		{"no profile", map[string]string{"AWS_PROFILE": "nobody"}, s3.Config{Bucket: "public", Endpoint: g.URL}, "no AWS profile nobody", nil},
		{"no bundle", map[string]string{"AWS_CA_BUNDLE": "/nowhere.pem"}, s3.Config{Bucket: "public", Endpoint: g.URL}, "/nowhere.pem", nil},
		{"credentials that fail", map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": dead.URL}, s3.Config{Bucket: "public", Endpoint: g.URL}, "aws sts get-caller-identity", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			s, err := s3.Open(t.Context(), test.cfg)
			if err == nil {
				defer s.Close()
			}
			switch {
			case test.says == "" && err != nil:
				t.Fatal(err)
			case test.says == "":
				if _, err := s.List(t.Context(), ".", false); err != nil {
					t.Error(err)
				}
			case err == nil:
				t.Fatal("it opens")
			case !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is):
				t.Errorf("%v; want %q, %v", err, test.says, test.is)
			case strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n"):
				t.Errorf("a secret or a second line: %v", err)
			}
		})
	}
}

var signed = map[string]string{"AWS_ACCESS_KEY_ID": gateway.AccessKey, "AWS_SECRET_ACCESS_KEY": gateway.SecretKey}

func with(env map[string]string, name, value string) map[string]string {
	all := map[string]string{name: value}
	for n, v := range env {
		if n != name {
			all[n] = v
		}
	}
	return all
}

// Catches names that tell a secret, or that are one for two sources.
func TestName(t *testing.T) {
	for _, test := range []struct {
		endpoint, want string
	}{
		{"", "s3://b/p/q"},
		{"https://s3.us-west-2.amazonaws.com", "s3://b/p/q"},
		{"https://minio.example:9000/", "s3://b/p/q at https://minio.example:9000"},
	} {
		name, err := s3.Name(t.Context(), s3.Config{Bucket: "b-", Prefix: "p/q", Endpoint: test.endpoint})
		if want := strings.Replace(test.want, "b/", "b-/", 1); err != nil || name != want {
			t.Errorf("%s: %q, %v; want %q", test.endpoint, name, err, want)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", "https://user:secret@minio.example?token=secret")
	if name, err := s3.Name(t.Context(), s3.Config{Bucket: "bucket"}); err != nil || name != "s3://bucket at https://minio.example" {
		t.Errorf("%q, %v", name, err)
	}
}

// Catches addresses that are taken for others.
func TestParse(t *testing.T) {
	for address, want := range map[string]string{
		"s3://bucket":                  "bucket|",
		"s3://bucket/":                 "bucket|",
		"s3://us-west-2.x.coop/a/b~1/": "us-west-2.x.coop|a/b~1",
		"s3://bucket/a?b=c#d":          "bucket|a?b=c#d",
		"s3://":                        "",
		"s3:///a":                      "",
		"s3://key:secret@bucket/a":     "",
		"s3://bucket/../a":             "",
		"s3://bucket/a//b":             "",
		"s3://bu cket":                 "",
		"https://bucket/a":             "",
	} {
		bucket, prefix, err := s3.Parse(address)
		if got := bucket + "|" + prefix; err == nil && got != want || err != nil && (want != "" || !errors.Is(err, fs.ErrInvalid)) {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}

// Catches the trap of AWS_CA_BUNDLE (the SDK configures no client but its own), and a bundle that is
// read and not used.
func TestCABundle(t *testing.T) {
	server, bundle := tlsServer(t)
	cfg := s3.Config{Bucket: "bucket", Endpoint: server}
	if _, err := s3.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("without the bundle: %v, want that the certificate is not trusted", err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	open(t, cfg)
}

// Catches checksums of other objects, or that are taken for the object's where they are not.
func TestChecksum(t *testing.T) {
	g := gateway.StartS3(t)
	g.Bucket("bucket", t.TempDir(), true)
	put := func(name string, algorithm types.ChecksumAlgorithm) {
		_, err := g.Client.PutObject(t.Context(), &sdk.PutObjectInput{
			Bucket: aws.String("bucket"), Key: &name, Body: strings.NewReader("123456789"), ChecksumAlgorithm: algorithm,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("crc64", types.ChecksumAlgorithmCrc64nvme)
	put("sha", types.ChecksumAlgorithmSha256)
	s := open(t, s3.Config{Bucket: "bucket", Endpoint: g.URL})
	// The check value of CRC-64/NVME.
	if sum, ok, err := s.Checksum(t.Context(), "crc64"); sum != 0xae8b14860a799888 || !ok || err != nil {
		t.Errorf("crc64: %x, %v, %v", sum, ok, err)
	}
	if _, ok, err := s.Checksum(t.Context(), "sha"); ok || err != nil {
		t.Errorf("sha: %v, %v", ok, err)
	}
	if _, _, err := s.Checksum(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if _, _, err := s.Checksum(t.Context(), "../crc64"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("../crc64: %v", err)
	}
}

// Catches an open object that does not go on when its server came back.
func TestRestart(t *testing.T) {
	g := gateway.StartS3(t)
	dir := t.TempDir()
	sourcetest.Files{T: t, Dir: dir}.Replace("x", bytes.Repeat([]byte{7}, 1000))
	g.Bucket("bucket", dir, true)
	s := open(t, s3.Config{Bucket: "bucket", Endpoint: g.URL, PrefixBytes: 1})
	o, err := s.Open(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	g.Stop()
	if _, err := o.ReadAt(t.Context(), make([]byte, 10), 5); !errors.As(err, new(*source.Transient)) {
		t.Errorf("a read from a dead server: %v, want a Transient", err)
	}
	g.Start()
	p := make([]byte, 10)
	for range 3 { // connections that were kept may turn out broken
		if _, err = o.ReadAt(t.Context(), p, 5); err == nil {
			break
		}
	}
	if err != nil || p[9] != 7 {
		t.Errorf("after the restart: %v, %v", p, err)
	}
}

var _ interface {
	Checksum(ctx context.Context, name string) (uint64, bool, error)
} = (*s3.Source)(nil)
