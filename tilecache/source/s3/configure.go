package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/tesserafs/tesserafs/tilecache/source/internal/web"
)

const (
	// instanceTimeout is how long the machine this runs on may take to say whether it has
	// credentials to give. Most are no instance of AWS's, and nothing answers.
	instanceTimeout = 5 * time.Second

	// anyRegion is asked where the region is not known, and named to gateways, which have none.
	anyRegion = "us-east-1"
)

// Name is what String says of a source with this configuration. It makes no request.
func Name(ctx context.Context, cfg Config) (string, error) {
	if err := cfg.check(); err != nil {
		return "", err
	}
	shared, err := load(ctx)
	if err != nil {
		return "", err
	}
	s := newSource(cfg, shared)
	defer s.Close()
	return s.name, nil
}

// load reads AWS's environment and files.
func load(ctx context.Context) (aws.Config, error) {
	// With AWS_CA_BUNDLE set no other client than the SDK's own can be configured.
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.NewBuildableClient()), config.WithLogger(logging.Nop{}))
	if err == nil {
		return cfg, nil
	}
	var profile config.SharedConfigProfileNotExistError
	var file *fs.PathError
	switch {
	case errors.As(err, &profile):
		return cfg, fmt.Errorf("there is no AWS profile %s: check AWS_PROFILE and the AWS configuration files", profile.Profile)
	case errors.As(err, &file):
		return cfg, fmt.Errorf("the AWS configuration cannot be read: %w", file)
	}
	// Its text may have lines of the files.
	return cfg, errors.New("the AWS configuration cannot be read: check the files that AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE and AWS_CA_BUNDLE name, or those in ~/.aws")
}

// newSource has no credentials, and asks nothing. cfg was checked.
func newSource(cfg Config, shared aws.Config) *Source {
	if cfg.PrefixBytes <= 0 {
		cfg.PrefixBytes = web.DefaultPrefix
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{cfg: cfg, name: cfg.address(), region: cfg.Region}
	if s.region == "" {
		s.region = shared.Region
	}
	clientConfig := web.Config{FollowRedirects: cfg.FollowRedirects, AllowPrivate: cfg.AllowPrivate, KeepMethod: true}
	if c, ok := shared.HTTPClient.(*awshttp.BuildableClient); ok {
		clientConfig.TLS = c.GetTransport().TLSClientConfig
	}
	s.http = web.NewClient(clientConfig)
	shared.Credentials = aws.AnonymousCredentials{}
	s.setClient(shared)
	// Behind Amazon's own endpoints lies the same bucket whatever they are called.
	endpoint, err := url.Parse(aws.ToString(s.client.Options().BaseEndpoint))
	if err == nil && endpoint.Host != "" && !strings.HasSuffix(strings.ToLower(endpoint.Hostname()), ".amazonaws.com") {
		s.name += " at " + endpoint.Scheme + "://" + endpoint.Host + strings.TrimSuffix(endpoint.EscapedPath(), "/")
	}
	return s
}

// setClient makes the client, as AWS and the source are configured.
func (s *Source) setClient(shared aws.Config) {
	s.inRegion = func(region string) *s3.Client {
		return s3.NewFromConfig(shared, func(o *s3.Options) {
			o.HTTPClient = s.http
			o.Region = region
			if s.cfg.Endpoint != "" {
				o.BaseEndpoint = &s.cfg.Endpoint
			}
			// A certificate for *.host is not for a bucket with a dot in its name, and most gateways
			// know no buckets in hosts' names.
			o.UsePathStyle = o.BaseEndpoint != nil || strings.Contains(s.cfg.Bucket, ".")
			if s.cfg.PathStyle != nil {
				o.UsePathStyle = *s.cfg.PathStyle
			}
			o.Retryer = aws.NopRetryer{}
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
			o.DisableLogOutputChecksumValidationSkipped = true
			o.Logger = logging.Nop{}
			o.ClientLogMode = 0
		})
	}
	region := s.region
	if region == "" {
		region = anyRegion
	}
	s.client = s.inRegion(region)
}

// sign gives the source the credentials that there are.
func (s *Source) sign(ctx context.Context, shared aws.Config) error {
	if s.cfg.Anonymous {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, instanceTimeout)
	defer cancel()
	_, err := shared.Credentials.Retrieve(limited)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		shared.Credentials = guarded{shared.Credentials}
		s.signed = true
		s.setClient(shared)
		return nil
	case aws.IsCredentialsProvider(shared.Credentials, (*ec2rolecreds.Provider)(nil)):
		// That is asked when nothing is configured.
		s.cfg.Log.Debug("no AWS credentials were found: requests are not signed", "source", s.name)
		return nil
	}
	return credentialsError{}
}

// guarded is credentials whose failures keep what they know to themselves.
type guarded struct{ aws.CredentialsProvider }

func (g guarded) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := g.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, credentialsError{}
	}
	return c, nil
}
