// Package web is what sources over HTTP have in common: how a connection is made, what an answer
// must say before a byte of it counts, and how a failure is told.
//
// # The way of a read
//
// [Open] asks a [Store] for the first bytes of an object, and pins the object to the size and the
// validator of the answer (object.go). A read asks for its range of that state and no other, looks
// at what the answer says of itself, and has the bytes written where the caller wants them; a stream
// does the same, and leaves the pace at which they come to the caller. The
// store makes the request, over the client of [NewClient] (client.go), which refuses redirects and
// addresses that nobody asked for (address.go). What goes wrong on the way becomes one line without
// a URL in it (errors.go): a URL may carry a signature.
//
// # Pinning
//
// An object with a strong ETag is pinned by it: each request carries If-Match, and the answer's
// ETag must be the same. (If-Range would not do: the server answers 200 and another state's bytes.)
// Whether a kept copy is still what there is is asked with If-None-Match (Unchanged).
//
// A weak ETag says that two states mean the same, not that their bytes are. An object that has a
// weak one or none is pinned by Last-Modified and its size, with If-Unmodified-Since: a change
// within the second in which the object was written, to another state of the same size, is not
// noticed then. An object that has no Last-Modified either cannot be pinned, and is not opened.
//
// # What is believed
//
// Nothing that a server says is allocated for: a body is read into what was asked for, and no
// further. Response headers end at 64 KiB, bodies that are no range at 4 MiB, bodies of errors at 64
// KiB.
package web
