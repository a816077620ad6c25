package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// nginxConf keeps all of nginx's own files in its directory, and its process one.
const nginxConf = `daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events { worker_connections 256; }
http {
	access_log off;
	default_type application/octet-stream;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %s;
		root "%s";
	}
}
`

// StartNginx serves a directory. Its listings are off, as they are by default.
func StartNginx(t testing.TB, root string) *Process {
	t.Helper()
	path := program(t, "nginx", "", "'apt-get install nginx-light'")
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return start(t, dir, func(addr string) *exec.Cmd {
		conf := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, addr, abs), 0o644); err != nil {
			t.Fatal(err)
		}
		return exec.Command(path, "-p", dir, "-e", "stderr", "-c", conf)
	})
}
