package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"github.com/tesserafs/tesserafs/synth"
)

// How metrics are served: the port is taken before the mount, so that one in use is said at once; they are
// served from the mount until its end.

// What clients of the metrics may take of the process, which has a mount to serve.
const (
	metricsConnections = 32 // at once; more wait
	metricsScrapes     = 4  // at once; more are refused
	metricsHeader      = 16 << 10
	metricsTime        = 10 * time.Second // for a request, and for its answer
	metricsIdle        = 2 * time.Minute
	metricsEnd         = time.Second // for scrapes under way when the mount ends
)

// metricsServer serves the metrics of a mount. A nil one serves none.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{} // closed when serving has ended; nil: it has not begun
}

// metricsAddress is where --metrics says: HOST:PORT, in which HOST may be left out for loopback.
func metricsAddress(flag string) (string, error) {
	host, port, err := net.SplitHostPort(flag)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", usageError("--metrics is an address and a port, such as 127.0.0.1:9464 (port 0 takes one that is free), not %q", flag)
	}
	if host == "" {
		host = "127.0.0.1" // Go would take all addresses of the machine.
	}
	return net.JoinHostPort(host, port), nil
}

// listenMetrics takes the port that --metrics names; nil where it names none.
func listenMetrics(ctx context.Context, flag string) (*metricsServer, error) {
	if flag == "" {
		return nil, nil
	}
	address, err := metricsAddress(flag)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		do := err.Error()
		switch {
		case errors.Is(err, unix.EADDRINUSE):
			do = "the port is in use: name another, or 0 for one that is free"
		case errors.Is(err, unix.EADDRNOTAVAIL):
			do = "it is no address of this machine"
		case errors.Is(err, unix.EACCES):
			do = "this user may not take the port: name one from 1024 on"
		}
		return nil, fmt.Errorf("cannot serve --metrics at %s: %s", address, do)
	}
	return &metricsServer{listener: netutil.LimitListener(l, metricsConnections)}, nil
}

// url is where the metrics are; "" for nowhere.
func (s *metricsServer) url() string {
	if s == nil {
		return ""
	}
	return "http://" + s.listener.Addr().String() + "/metrics"
}

// start serves the metrics of a mount that has such a status, until close.
func (s *metricsServer) start(status func() synth.Status, log *slog.Logger) {
	if s == nil {
		return
	}
	faults := slog.NewLogLogger(log.With("server", "metrics").Handler(), slog.LevelWarn)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector(status), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: faults, MaxRequestsInFlight: metricsScrapes}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>tesserafs</title><a href=\"/metrics\">Metrics of a mount of tesserafs</a>\n")
	})
	s.server = &http.Server{
		Handler: mux, ErrorLog: faults, MaxHeaderBytes: metricsHeader,
		ReadTimeout: metricsTime, WriteTimeout: metricsTime, IdleTimeout: metricsIdle,
	}
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		if err := s.server.Serve(s.listener); err != http.ErrServerClosed {
			log.Error("metrics are served no more", "error", err)
		}
	}()
	log.Info("metrics", "address", s.url())
}

// close ends serving and gives the port back.
func (s *metricsServer) close() {
	switch {
	case s == nil:
	case s.served == nil:
		_ = s.listener.Close()
	default:
		ctx, cancel := context.WithTimeout(context.Background(), metricsEnd)
		defer cancel()
		if s.server.Shutdown(ctx) != nil {
			_ = s.server.Close() // cuts off who is slow
		}
		<-s.served
	}
}
