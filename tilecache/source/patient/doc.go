// Package patient asks a source that is far away: it waits for it, asks it again, and gives it up for
// dead when that is what it is.
//
// # Objective
//
// A request over a network may be lost, stall, or meet a busy server, and nearly always the next one
// fares better. Readers should see none of that, but for the time it takes; and when the source is
// really gone they should hear so within seconds, not each after a minute of its own. A source itself
// does not retry. It says what is worth a retry (*source.Transient), and this room does the rest for
// all of them.
//
// # The way of a call
//
//	Open, ReadAt, List
//	  -> breaker   dead: fails at once. Otherwise the call ends when the source dies.
//	  -> patience  a time for the whole call: 60 s, and more for many bytes.
//	  -> retry     after a failure, after a pause: twice as long each time, a random part of it, and
//	               what the server asks for. A server that asks for more than is left ends the call.
//	               Of a read only what has not come yet is asked for again (Progressive objects).
//	  -> place     64 requests at once; first come, first served.
//	  -> request   with a watch, which ends it when it is too slow.
//	       -> second request   beside one that takes 3 times what it should, and more than 200 ms
//
//	Stream
//	  -> breaker, place, request   once: what breaks off is for ReadAt
//
// What needs no request goes past all of this: Check, and reads of what an object brought along when it
// was opened.
//
// # Failures and answers
//
// A *source.Transient and the end of the watch are failures. Every other error is an answer: it is
// passed on as it is, at once, and shows that the source lives. That there is no such object is an
// answer, that it has changed, that it may not be read, and that the server makes no sense.
//
// After all patience the error is source.ErrUnavailable and the last failure, names the object, and
// says how many attempts there were in what time. When the source is dead it is source.ErrUnavailable
// and what it died of, and says since when. The end of the caller's context is the context's error,
// and no other error is one.
//
// # Slow requests
//
// A request is given 15 s, and its bytes at 16 KiB/s, which is little on purpose: on a narrow line that
// many share, cutting off what is slow and asking for it again makes it slower for all. Objects that
// are Progressive are watched more closely: 15 s for the first byte, 10 s between two.
//
// A request that is slow by the source's own pace is better sent twice. At most one in twenty is, over
// time, so that a source which is slow because too much is asked of it is not asked for twice as much;
// and none while all places are taken. Whether the second goes over another connection is for the
// source to say: with HTTP/1.1 it does, as the first keeps its own.
//
// # Streams
//
// A stream (source.Streamer) is one request whose bytes are taken as they come, by a reader who may pause
// as long as he likes. It is not tried again, nor sent twice: its reader has what came, and asks for the
// rest with ReadAt. So it is given up early, as a request is sent twice: when its header, or the bytes of a Read, take
// 3 times what they should, and more than 200 ms. Where no more may be asked for twice, or the source has not shown
// its pace yet, that is 15 s for the header and 10 s for a Read. All Reads together are given 15 s, and their bytes at
// 16 KiB/s, as requests are. The
// error is a *source.Transient, as it is where the answer breaks off.
//
// It has its place until it ends, by io.EOF, a failure, Close, or the end of its context. As readers pause
// with it, there should be fewer of them than places. Its failures are counted and not held against
// the source, for the reads that follow find out; its bytes show that the source lives. The pace is learned
// from streams that came whole and whose readers paused for less than a tenth of their time. When the source dies or is closed, streams end with all else.
//
// # Whose buffer
//
// The first request of a read fills the caller's buffer, without a copy, on the caller's goroutine. A
// second one has a buffer of its own (16 MiB for all of them together), and is copied when it is the
// quicker. ReadAt then ends the first and waits until it has returned. So nothing ever writes to the
// caller's buffer after ReadAt, and this asks one thing of a source: that its calls return promptly once
// their context has ended. Of a source that is slow to return the readers are as slow; they are never
// wrong. The same wait holds for the end of the caller's context.
//
// # Dead sources
//
// A source is dead when 3 requests have failed in a row, no byte came since, and the first of them
// began 10 s ago: many readers see one short trouble many times, and should outlast it. Then all calls
// under way fail together, and all new ones at once. One request at a time asks, in the background,
// whether it lives again: an open of what failed last, after 2 s, 4 s and then every 8 s. Any answer
// will do.
//
// # The pace
//
// Latency and bandwidth are fitted to the newest requests of each size, see estimator. Failures,
// retries, and requests that were sent twice are left out. The bandwidth is that of one
// connection among those that were in use, so it falls when they share a narrow line.
//
// # What is failsafe-go's and what is not
//
// Retries and places are policies of failsafe-go (retrypolicy, bulkhead). Two are not, as they would
// not do:
//
//   - hedgepolicy returns while the loser still runs, and the loser would write into a buffer that
//     is its reader's again; it runs every request on a goroutine of its own; and its
//     budget limits how many hedges run at once, not what share of requests they are.
//   - circuitbreaker counts failures, or their rate in a window, and has no least time for them to
//     last; it lets readers' own calls find out whether the source lives, each of which may wait
//     for the whole time of a request; and it does not end the calls that are under way.
package patient
