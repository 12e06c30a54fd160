// An echo server of u32be frames as one writes it in Go: a goroutine for each connection, buffered both ways.
//
// Answers are held until the next read from the kernel, so that frames that came together are sent together. The payload's
// memory is used again for the next one.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
)

const (
	header     = 4
	bufferSize = 256 << 10
	maxPayload = 16 << 20
)

// A source sends what is held before it waits for more.
type source struct {
	peer    net.Conn
	answers *bufio.Writer
}

func (from source) Read(memory []byte) (int, error) {
	if err := from.answers.Flush(); err != nil {
		return 0, err
	}
	return from.peer.Read(memory)
}

func echo(peer net.Conn) {
	defer peer.Close()
	writer := bufio.NewWriterSize(peer, bufferSize)
	reader := bufio.NewReaderSize(source{peer, writer}, bufferSize)
	frame := make([]byte, bufferSize)
	for {
		if _, err := io.ReadFull(reader, frame[:header]); err != nil {
			return
		}
		length := int(binary.BigEndian.Uint32(frame))
		if length > maxPayload {
			return
		}
		if needed := header + length; needed > len(frame) {
			larger := make([]byte, needed)
			copy(larger, frame[:header])
			frame = larger
		}
		if _, err := io.ReadFull(reader, frame[header:header+length]); err != nil {
			return
		}
		if _, err := writer.Write(frame[:header+length]); err != nil {
			return
		}
	}
}

func main() {
	runtime.GOMAXPROCS(1) // one core, as the others
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	for {
		peer, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(peer)
	}
}
