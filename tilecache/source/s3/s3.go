// Package s3 is a bucket as a source of tiles: Amazon's, or a gateway's that speaks as Amazon does.
//
// # Objective
//
// A public bucket just works: its region is found, and without credentials on this machine requests
// go unsigned. A private one works as for any tool that reads AWS's environment and configuration
// files. What fails says what to do, and nothing of a credential.
//
// # The way of a read
//
// The SDK (aws-sdk-go-v2) finds credentials, signs, and knows where a bucket lies. Each object is
// opened and read as package web describes: one GetObject with Range, and If-Match from then on. The
// SDK's own retries are off: package patient retries, counts and gives up for all sources alike. Its
// checksums are off too, for a range has none; [Source.Checksum] gives a whole object's.
//
// # Credentials
//
// They come from where the SDK looks (environment, files, profiles, single sign-on, containers, the
// instance). Where none of these has any, requests are not signed, and the debug log says so. Where
// one is configured and fails, so does opening: reading on without would hide it.
//
// # Connections
//
// Credentials are got over the SDK's own client, which AWS_CA_BUNDLE needs and which may go to the
// instance's link-local address. Requests to the bucket go over package web's, with the TLS
// configuration of the first: it may not.
//
// # Regions
//
// A region that is neither given nor configured is asked for (HeadBucket, x-amz-bucket-region); one
// that is configured and is not the bucket's is corrected, for it is often about other buckets.
package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/internal/web"
)

var _ source.Source = (*Source)(nil)

// Config says which bucket, and how to reach it. Only Bucket is needed.
type Config struct {
	Bucket string
	Prefix string // of all names, without slashes at its ends; "" for the whole bucket

	Endpoint  string // "https://host:port" of a gateway; "" for AWS, or what the AWS configuration says
	Region    string // "" finds it
	PathStyle *bool  // bucket in the path rather than in the host's name; nil: with an Endpoint, or a dot in Bucket

	Anonymous bool // signs nothing and looks for no credentials

	FollowRedirects bool // to other hosts, unsigned
	AllowPrivate    bool // lets redirects and public names lead to private addresses

	PrefixBytes int          // that opening an object brings along; 0 for 32 KiB
	Log         *slog.Logger // nil for none
}

// Source is what lies in a bucket under a prefix.
type Source struct {
	cfg      Config
	name     string
	region   string
	signed   bool
	http     *http.Client
	client   *s3.Client
	inRegion func(region string) *s3.Client
}

var (
	bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
)

// Parse takes s3://bucket/prefix apart.
func Parse(address string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(address, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	switch {
	case strings.Contains(bucket, "@"):
		// What is before the @ must not be shown.
		return "", "", fmt.Errorf("an s3:// address takes no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: %w", fs.ErrInvalid)
	case !ok || !bucketName.MatchString(bucket):
		return "", "", fmt.Errorf("not an address of a bucket: write s3://bucket/prefix: %w", fs.ErrInvalid)
	}
	prefix = strings.Trim(prefix, "/")
	if prefix != "" && (!fs.ValidPath(prefix) || prefix == ".") {
		return "", "", fmt.Errorf("s3://%s: the prefix is no path, as grid/2024 is one: %w", bucket, fs.ErrInvalid)
	}
	return bucket, prefix, nil
}

// check refuses what cannot be right before anything is asked.
func (cfg *Config) check() error {
	switch {
	case !bucketName.MatchString(cfg.Bucket):
		return fmt.Errorf("%q is no bucket's name: %w", cfg.Bucket, fs.ErrInvalid)
	case cfg.Prefix != "" && (!fs.ValidPath(cfg.Prefix) || cfg.Prefix == "."):
		return fmt.Errorf("s3://%s: the prefix is no path, as grid/2024 is one: %w", cfg.Bucket, fs.ErrInvalid)
	case cfg.Region != "" && !regionName.MatchString(cfg.Region):
		return fmt.Errorf("%q is no region's name, as us-west-2 is one: %w", cfg.Region, fs.ErrInvalid)
	}
	return checkEndpoint(cfg.Endpoint)
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("the S3 endpoint is no URL, as https://host:port is one: %w", fs.ErrInvalid)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the S3 endpoint takes no user, password or query: name https://host:port, and credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE: %w", fs.ErrInvalid)
	}
	return nil
}

// address is the bucket and prefix, as Parse takes them.
func (cfg *Config) address() string { return "s3://" + path.Join(cfg.Bucket, cfg.Prefix) }

// String is s3://bucket/prefix, followed by the endpoint if that is not AWS's.
func (s *Source) String() string { return s.name }

// Open finds an object, with one request. Its errors name s3://bucket/prefix/name.
func (s *Source) Open(ctx context.Context, name string) (source.Object, error) {
	return web.Open(ctx, store{s}, name, s.cfg.PrefixBytes)
}

// Unchanged implements source.Revalidator, with one request.
func (s *Source) Unchanged(ctx context.Context, name string, info source.Info) (bool, error) {
	return web.Unchanged(ctx, store{s}, name, info)
}

// Checksum is the CRC-64/NVME of a whole object as the server keeps it. ok is false where it keeps
// none: S3 does of what was written with one, which is everything since December 2024.
func (s *Source) Checksum(ctx context.Context, name string) (crc64nvme uint64, ok bool, err error) {
	if err := web.CheckName(ctx, "checksum of", name); err != nil {
		return 0, false, err
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.cfg.Bucket, Key: aws.String(s.key(name)), ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return 0, false, fmt.Errorf("checksum of %s: %w", s.path(name), explain(ctx, err))
	}
	// That of a composite is of checksums, not of the object.
	encoded := aws.ToString(out.ChecksumCRC64NVME)
	if encoded == "" || out.ChecksumType == types.ChecksumTypeComposite {
		return 0, false, nil
	}
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(sum) != 8 {
		return 0, false, fmt.Errorf("checksum of %s: what the server says is none (x-amz-checksum-crc64nvme)", s.path(name))
	}
	return binary.BigEndian.Uint64(sum), true, nil
}

// Close ends connections that are not in use.
func (s *Source) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

func (s *Source) key(name string) string  { return path.Join(s.cfg.Prefix, name) }
func (s *Source) path(name string) string { return s.cfg.address() + "/" + name }

// store makes the requests of objects.
type store struct{ *Source }

func (s store) Path(name string) string { return s.path(name) }

func (s store) Get(ctx context.Context, req web.Request) (*web.Answer, error) {
	in := &s3.GetObjectInput{Bucket: &s.cfg.Bucket, Key: aws.String(s.key(req.Name)), Range: aws.String(req.Range())}
	switch {
	case req.IfMatch != "":
		in.IfMatch = &req.IfMatch
	case !req.IfUnmodifiedSince.IsZero():
		in.IfUnmodifiedSince = &req.IfUnmodifiedSince
	case req.IfNoneMatch != "":
		in.IfNoneMatch = &req.IfNoneMatch
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, explain(ctx, err)
	}
	a := &web.Answer{
		ContentRange: aws.ToString(out.ContentRange), Length: -1,
		ETag: aws.ToString(out.ETag), ModTime: aws.ToTime(out.LastModified), Body: out.Body,
	}
	if out.ContentLength != nil {
		a.Length = *out.ContentLength
	}
	return a, nil
}

func (s store) Head(ctx context.Context, name string) (*web.Answer, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.cfg.Bucket, Key: aws.String(s.key(name))})
	if err != nil {
		return nil, explain(ctx, err)
	}
	return &web.Answer{
		Length: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), ModTime: aws.ToTime(out.LastModified),
	}, nil
}

// errUnderstood is of an answer that is none of S3's.
var errUnderstood = errors.New("what the server answers is not understood: it may be no S3 server")
