package faults_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// hostName is known to the name server of the tests.
const hostName = "archive.test"

// nameServer answers for this process. It is set before anything asks.
var nameServer names

// names knows one host, at the address of lines, unless told otherwise.
type names struct{ how atomic.Int32 }

// What becomes of a question.
const (
	named   = iota
	failing // SERVFAIL: it may be known again
	unknown // NXDOMAIN: there is none
	mute    // it never answers
)

func (n *names) set(how int32) { n.how.Store(how) }

// resolver asks it over a connection that is no packet's, so questions and answers have their length
// before them.
func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go n.serve(ours)
		return theirs, nil
	}}
}

// serve ends with the connection.
func (n *names) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(question) != nil || len(m.Questions) != 1 {
			return
		}
		answer, err := n.answer(m)
		if err != nil {
			return
		}
		if answer == nil {
			continue
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer is nil where there is none.
func (n *names) answer(m dnsmessage.Message) ([]byte, error) {
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	switch how := n.how.Load(); {
	case how == mute:
		return nil, nil
	case how == failing:
		m.RCode = dnsmessage.RCodeServerFailure
	case how == unknown || q.Name.String() != hostName+".":
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 2}},
		}}
	}
	return m.Pack()
}
