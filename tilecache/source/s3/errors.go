package s3

import (
	"context"
	"errors"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tesserafs/tesserafs/tilecache/source"
	"github.com/tesserafs/tesserafs/tilecache/source/internal/web"
)

// credentialsError hides what a provider of credentials says: it may be the output of a program.
type credentialsError struct{}

func (credentialsError) Error() string {
	return "the credentials that AWS is configured with cannot be had: run 'aws sts get-caller-identity' to see why, or read without credentials"
}

// explain is an error of the SDK's without its texts, which have the server's in them.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var answered *awshttp.ResponseError
	if errors.As(err, &answered) && answered.HTTPStatusCode() >= 300 {
		code := ""
		var told smithy.APIError
		if errors.As(err, &told) {
			code = told.ErrorCode()
		}
		return web.Refused(answered.HTTPStatusCode(), code, answered.HTTPResponse().Header)
	}
	switch {
	case errors.As(err, new(credentialsError)):
		return &source.Transient{Err: credentialsError{}}
	case errors.As(err, new(*smithyhttp.RequestSendError)):
		return web.Explain(ctx, err)
	case answered != nil:
		if known := web.Explain(ctx, err); !errors.As(known, new(*source.Transient)) {
			return known
		}
		return &source.Transient{Err: errUnderstood}
	}
	return errors.New("the request cannot be made: check the names of bucket, region and endpoint")
}
