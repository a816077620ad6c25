package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tesserafs/tesserafs/tilecache/source/internal/web"
)

// Open takes what is under a prefix of a bucket as a source. It lists one name of it, and fails where
// there is no such bucket, nothing under the prefix (both fs.ErrNotExist), no right to list
// (fs.ErrPermission), or no answer.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	shared, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.address(), err)
	}
	s := newSource(cfg, shared)
	err = s.open(ctx, shared)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s, nil
}

func (s *Source) open(ctx context.Context, shared aws.Config) error {
	// AWS_ENDPOINT_URL has not been looked at yet.
	if err := checkEndpoint(aws.ToString(s.client.Options().BaseEndpoint)); err != nil {
		return err
	}
	if err := s.sign(ctx, shared); err != nil {
		return err
	}
	if s.region == "" {
		if err := s.findRegion(ctx); err != nil {
			return s.word(err)
		}
	}
	err := web.Insist(ctx, func() error { return s.ask(ctx) })
	if isElsewhere(err) && s.cfg.Region == "" {
		was := s.region
		if err := s.findRegion(ctx); err != nil {
			return s.word(err)
		}
		if s.region != was {
			err = web.Insist(ctx, func() error { return s.ask(ctx) })
		}
	}
	return s.word(err)
}

// ask lists one name.
func (s *Source) ask(ctx context.Context) error {
	prefix := s.cfg.Prefix
	if prefix != "" {
		prefix += "/"
	}
	out, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.cfg.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(1)})
	if err != nil {
		return explain(ctx, err)
	}
	// A page may be empty and not the last.
	if len(out.Contents) == 0 && !aws.ToBool(out.IsTruncated) {
		return errNothing
	}
	return nil
}

// errNothing: the bucket answers, and holds nothing of what is asked for.
var errNothing = fmt.Errorf("there is nothing in it: check the name, and the prefix after it: %w", fs.ErrNotExist)

// findRegion asks where the bucket lies. Gateways need not say: it is anyRegion then.
func (s *Source) findRegion(ctx context.Context) error {
	region := ""
	err := web.Insist(ctx, func() error {
		out, err := s.inRegion(anyRegion).HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.cfg.Bucket})
		if err == nil {
			region = aws.ToString(out.BucketRegion)
			return nil
		}
		// Refusals have it too.
		var answered *awshttp.ResponseError
		if errors.As(err, &answered) {
			region = answered.HTTPResponse().Header.Get("X-Amz-Bucket-Region")
		}
		return explain(ctx, err)
	})
	// Any other answer is for the listing that follows to explain.
	if err != nil && !errors.As(err, new(*web.Failure)) {
		return err
	}
	if !regionName.MatchString(region) {
		region = anyRegion
	}
	if region != s.region {
		s.region = region
		s.client = s.inRegion(region)
		s.cfg.Log.Debug("the bucket's region", "source", s.name, "region", region)
	}
	return nil
}

// isElsewhere says whether an answer means that the bucket is in another region.
func isElsewhere(err error) bool {
	var f *web.Failure
	if !errors.As(err, &f) {
		return false
	}
	switch f.Status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect:
		return true
	}
	return f.Code == "AuthorizationHeaderMalformed" || f.Code == "IllegalLocationConstraintException"
}

// word says what to do about a source that does not open.
func (s *Source) word(err error) error {
	var f *web.Failure
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f) && f.Code == "NoSuchBucket", errors.Is(err, fs.ErrNotExist) && err != errNothing:
		return fmt.Errorf("there is no such bucket: check its name, and the endpoint: %w", fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission) && s.signed:
		return fmt.Errorf("the credentials that AWS is configured with may not list it: use others (AWS_PROFILE, AWS_ACCESS_KEY_ID), or none if it is public: %w", err)
	case errors.Is(err, fs.ErrPermission) && !s.cfg.Anonymous:
		return fmt.Errorf("it is not public, and no credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("it is not public: read it with credentials: %w", err)
	case isElsewhere(err) && s.cfg.Region != "":
		return fmt.Errorf("it is not in region %s: name another, or none to have it found: %w", s.cfg.Region, err)
	}
	return err
}
