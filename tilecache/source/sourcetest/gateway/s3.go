package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// What the gateway takes from those who sign.
const (
	AccessKey = "tesserafs-tests"
	SecretKey = "a-secret-that-must-not-be-shown"
	Region    = "us-east-1"
)

// S3 is versitygw over directories.
type S3 struct {
	*Process
	Client *s3.Client // may do everything
	root   string
}

// StartS3 starts a gateway without buckets.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	path := program(t, "versitygw", "TESSERAFS_VERSITYGW",
		"'go install github.com/versity/versitygw/cmd/versitygw@v1.8.0' and put it on the PATH, or name it in TESSERAFS_VERSITYGW")
	dir := t.TempDir()
	s := &S3{root: filepath.Join(dir, "buckets")}
	sidecar := filepath.Join(dir, "metadata")
	for _, d := range []string{s.root, sidecar} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.Process = start(t, dir, func(addr string) *exec.Cmd {
		// What it notes about objects and buckets lies beside them, so that directories of others
		// can be buckets and stay as they are.
		return exec.Command(path, "--port", addr, "--access", AccessKey, "--secret", SecretKey, "--region", Region,
			"--keep-alive", "--quiet", "posix", "--bucketlinks", "--sidecar", sidecar, s.root)
	})
	s.Client = s3.New(s3.Options{
		Region: Region, BaseEndpoint: &s.URL, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
	})
	return s
}

// Bucket shows a directory as a bucket, to everyone where it is public. Files that are in it have no
// ETag, unlike objects that are put.
func (s *S3) Bucket(name, dir string, public bool) {
	s.t.Helper()
	abs, err := filepath.Abs(dir)
	if err == nil {
		err = os.Symlink(abs, filepath.Join(s.root, name))
	}
	if err == nil && public {
		_, err = s.Client.PutBucketPolicy(s.t.Context(), &s3.PutBucketPolicyInput{Bucket: &name, Policy: aws.String(fmt.Sprintf(
			`{"Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}]}`, name, name))})
	}
	if err != nil {
		s.t.Fatalf("bucket %s: %v", name, err)
	}
}

// Environment makes the AWS environment of a process one without credentials and configuration, or
// with the gateway's credentials.
func Environment(setenv func(name, value string), signed bool) {
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		setenv(name, value)
	}
	if signed {
		setenv("AWS_ACCESS_KEY_ID", AccessKey)
		setenv("AWS_SECRET_ACCESS_KEY", SecretKey)
	}
}
