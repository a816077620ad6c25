package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Catches a doctor that finds fault with a machine on which everything works, as this one's other
// tests show.
func TestDoctor(t *testing.T) {
	p := newPlace(t)
	out := p.must("doctor", archive4.Dir)
	for _, want := range []string{"ok    libproj", "fuse device", "fuse helper", "other users", "kernel", "memory", "open files", "dead mounts", "v1: 4 tiles"} {
		if !strings.Contains(strings.ReplaceAll(out, "ok  libproj", "ok    libproj"), want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "fail") {
		t.Errorf("doctor fails here:\n%s", out)
	}
}

// Catches a check of the machine that passes where a mount would fail, or does not say what to do.
func TestHost(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	device := write("fuse", "")
	allows := write("allows.conf", "# user_allow_other\nmount_max = 5\n  user_allow_other  \n")
	forbids := write("forbids.conf", "#user_allow_other\n")
	good := host{device: device, fuseConf: allows, fusermount: "sh", mountinfo: "/proc/self/mountinfo"}
	with := func(change func(*host)) host {
		h := good
		change(&h)
		return h
	}
	for _, tt := range []struct {
		name  string
		check func() error
		words string // of the error; "" for none
	}{
		{"device", good.checkDevice, ""},
		{"no device", with(func(h *host) { h.device = filepath.Join(dir, "none") }).checkDevice, "modprobe fuse"},
		{"helper", good.checkHelper, ""},
		{"no helper", with(func(h *host) { h.fusermount = "no-such-program" }).checkHelper, "apt install fuse3"},
		{"root needs none", with(func(h *host) { h.fusermount, h.root = "no-such-program", true }).checkHelper, ""},
		{"others", good.checkOthers, ""},
		{"no others", with(func(h *host) { h.fuseConf = forbids }).checkOthers, "user_allow_other into " + forbids},
		{"no conf", with(func(h *host) { h.fuseConf = dir + "/none" }).checkOthers, "user_allow_other"},
		{"root lets others", with(func(h *host) { h.fuseConf, h.root = forbids, true }).checkOthers, ""},
	} {
		err := tt.check()
		if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.words)
		}
	}
}

// Catches a device that other users may not open and a message that is for root.
func TestDeviceForbidden(t *testing.T) {
	if os.Geteuid() == 0 {
		// Root may open any file, so this asks as nobody, of a device that nobody may open.
		p := newPlace(t)
		if fi, err := os.Stat("/dev/fuse"); err == nil && fi.Mode().Perm()&0o006 != 0o006 {
			p.asNobody = true
			for _, d := range []string{filepath.Dir(filepath.Dir(p.home)), filepath.Dir(p.home)} {
				if err := os.Chmod(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			p.refuses(exitFailed, []string{"you may not open /dev/fuse", "chmod 0666"}, "mount", archive4.Dir, p.mnt)
			if r := p.run("doctor"); r.code != exitFailed || !strings.Contains(r.stdout, "fail  fuse device") {
				t.Errorf("doctor: exit code %d\n%s", r.code, r.stdout)
			}
		}
		return
	}
	device := filepath.Join(t.TempDir(), "fuse")
	if err := os.WriteFile(device, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := (host{device: device}).checkDevice(); err == nil || !strings.Contains(err.Error(), "chmod 0666") {
		t.Errorf("a device that may not be opened: %v", err)
	}
}

// Catches memory of a control group that is not seen, and figures in the wrong unit.
func TestFindMemory(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	machine := write("meminfo", "MemTotal:       24654321 kB\nMemAvailable:   8388608 kB\n")
	for _, tt := range []struct {
		meminfo, cgroup string
		verdict         verdict
		words           string
	}{
		{machine, "none", ok, "8 GiB available"},
		{machine, write("unlimited", "max\n"), ok, "8 GiB available"},
		{machine, write("large", "17179869184\n"), ok, "8 GiB available"},
		{machine, write("small", "536870912\n"), warn, "512 MiB allowed by the control group"},
		{write("old", "MemTotal: 1 kB\n"), "none", warn, "does not say"},
		{"none", "none", warn, "none"},
	} {
		if f := findMemory(tt.meminfo, tt.cgroup); f.verdict != tt.verdict || !strings.Contains(f.says, tt.words) {
			t.Errorf("%s, %s: %v", tt.meminfo, tt.cgroup, f)
		}
	}
}

// Catches releases of distributions and containers that are not understood.
func TestKernelVersion(t *testing.T) {
	for release, want := range map[string][2]int{
		"6.1.0-18-amd64": {6, 1}, "6.18.44-fc-v595": {6, 18}, "5.15.153.1-microsoft-standard-WSL2": {5, 15}, "6.9-rc1": {6, 9}, "7.0": {7, 0},
	} {
		if got, err := kernelVersion(release); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", release, got, err, want)
		}
	}
	for _, release := range []string{"", "6", "x.y", ".1"} {
		if v, err := kernelVersion(release); err == nil {
			t.Errorf("%q: %v, want an error", release, v)
		}
	}
}

// Catches mounts of others taken for ours, and directories with spaces.
func TestMountsOf(t *testing.T) {
	const mountinfo = `22 1 254:1 / / rw,relatime - ext4 /dev/root rw
41 22 0:40 / /mnt/a\040b\134c ro,nosuid,nodev,relatime shared:1 - fuse.tesserafs /data rw,user_id=0
42 22 0:41 / /mnt/other rw - fuse.sshfs host: rw
43 22 0:42 / /mnt/plain ro - fuse.tesserafs /data rw
not a line
`
	if got, want := mountsOf(mountinfo), []string{`/mnt/a b\c`, "/mnt/plain"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
