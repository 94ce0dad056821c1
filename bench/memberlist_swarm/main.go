// Command memberlist_swarm measures hashicorp/memberlist: nodes of one process on loopback, encryption on, that
// spread writes as user broadcasts and merge their state in push/pull, as its users do. It prints one JSON object.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	mathrand "math/rand"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// swarm is all nodes, and for each write how many of them hold it.
type swarm struct {
	nodes  []*node
	held   []atomic.Int32
	done   []chan struct{}
	deaths atomic.Int64
	quiet  atomic.Bool
}

// node is one member; it is the delegate and the event delegate of its memberlist.
type node struct {
	swarm *swarm
	list  *memberlist.Memberlist
	queue *memberlist.TransmitLimitedQueue
	mutex sync.Mutex
	holds map[uint32][]byte
}

// write is a broadcast; none makes another one needless, for each is of a key of its own.
type write []byte

func (write) Invalidates(memberlist.Broadcast) bool { return false }
func (w write) Message() []byte                     { return w }
func (write) Finished()                             {}

func (n *node) NodeMeta(int) []byte { return nil }

func (n *node) NotifyMsg(message []byte) { n.hold(message) }

func (n *node) GetBroadcasts(overhead, limit int) [][]byte {
	return n.queue.GetBroadcasts(overhead, limit)
}

func (n *node) LocalState(bool) []byte {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	var state []byte
	for _, message := range n.holds {
		state = binary.LittleEndian.AppendUint32(state, uint32(len(message)))
		state = append(state, message...)
	}
	return state
}

func (n *node) MergeRemoteState(state []byte, _ bool) {
	for len(state) >= 4 {
		end := 4 + binary.LittleEndian.Uint32(state)
		n.hold(state[4:end])
		state = state[end:]
	}
}

func (n *node) NotifyJoin(*memberlist.Node)   {}
func (n *node) NotifyUpdate(*memberlist.Node) {}
func (n *node) NotifyLeave(*memberlist.Node) {
	if !n.swarm.quiet.Load() {
		n.swarm.deaths.Add(1)
	}
}

// hold keeps a write and passes it on, if it is news.
func (n *node) hold(message []byte) {
	number := binary.LittleEndian.Uint32(message)
	n.mutex.Lock()
	_, known := n.holds[number]
	if !known {
		message = slices.Clone(message)
		n.holds[number] = message
	}
	n.mutex.Unlock()
	if known {
		return
	}
	n.queue.QueueBroadcast(write(message))
	if int(n.swarm.held[number].Add(1)) == len(n.swarm.nodes) {
		close(n.swarm.done[number])
	}
}

func start(count, writes int, tune func(*memberlist.Config)) (*swarm, error) {
	s := &swarm{held: make([]atomic.Int32, writes), done: make([]chan struct{}, writes)}
	for number := range s.done {
		s.done[number] = make(chan struct{})
	}
	key := make([]byte, 32)
	rand.Read(key)
	for index := range count {
		n := &node{swarm: s, holds: map[uint32][]byte{}}
		config := memberlist.DefaultLANConfig()
		config.Name = fmt.Sprintf("node-%d", index)
		config.BindAddr, config.BindPort, config.AdvertisePort = "127.0.0.1", 0, 0
		config.SecretKey = key
		config.Delegate, config.Events = n, n
		config.Logger = log.New(io.Discard, "", 0)
		tune(config)
		n.queue = &memberlist.TransmitLimitedQueue{
			NumNodes:       func() int { return count },
			RetransmitMult: config.RetransmitMult,
		}
		list, err := memberlist.Create(config)
		if err != nil {
			return nil, err
		}
		n.list = list
		s.nodes = append(s.nodes, n)
	}
	for begun := time.Now(); time.Since(begun) < 3*time.Minute; {
		complete := true
		for _, n := range s.nodes {
			if n.list.NumMembers() < count {
				complete = false
				other := s.nodes[mathrand.Intn(len(s.nodes))]
				n.list.Join([]string{other.list.LocalNode().Address()}) // tried again if it failed
			}
		}
		if complete {
			s.deaths.Store(0)
			return s, nil
		}
	}
	return nil, fmt.Errorf("the nodes do not find each other")
}

func (s *swarm) write(number int) {
	message := binary.LittleEndian.AppendUint32(nil, uint32(number))
	message = fmt.Appendf(message, `{"key": "bench.%d", "value": %d}`, number, number)
	s.nodes[mathrand.Intn(len(s.nodes))].hold(message)
}

// one writes one after another, each awaited everywhere: milliseconds each took; -1 for one that never was there.
func (s *swarm) one(writes int, limit time.Duration) []float64 {
	var took []float64
	for number := range writes {
		time.Sleep(100 * time.Millisecond)
		begun := time.Now()
		s.write(number)
		select {
		case <-s.done[number]:
			took = append(took, float64(time.Since(begun).Microseconds())/1000)
		case <-time.After(limit):
			took = append(took, -1)
		}
	}
	return took
}

// burst lets writers write as fast as they can: seconds until all was everywhere, or the share that was when it was given up.
func (s *swarm) burst(writes, writers int, limit time.Duration, memory int) (float64, float64, string) {
	begun := time.Now()
	var numbers atomic.Int64
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for number := numbers.Add(1) - 1; number < int64(writes); number = numbers.Add(1) - 1 {
				s.write(int(number))
			}
		})
	}
	group.Wait()
	why := ""
	for number := 0; number < writes && why == ""; {
		select {
		case <-s.done[number]:
			number++
		case <-time.After(100 * time.Millisecond):
			switch {
			case time.Since(begun) > limit:
				why = "time"
			case resident() > memory<<20:
				why = "memory"
			}
		}
	}
	took := time.Since(begun).Seconds()
	var held int64
	for number := range writes {
		held += int64(s.held[number].Load())
	}
	return took, float64(held) / float64(writes) / float64(len(s.nodes)), why
}

// resident is this process's memory, in bytes.
func resident() int {
	var size, pages int
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fmt.Fscan(strings.NewReader(string(text)), &size, &pages)
	return pages * os.Getpagesize()
}

func main() {
	nodes := flag.Int("nodes", 211, "how many nodes")
	writes := flag.Int("writes", 100, "how many writes")
	writers := flag.Int("writers", 0, "write at once, by so many writers, instead of one after another")
	interval := flag.Duration("gossip-interval", 0, "instead of memberlist's own for a LAN")
	fanout := flag.Int("gossip-nodes", 0, "instead of memberlist's own for a LAN")
	limit := flag.Duration("limit", 30*time.Second, "give a write, or the burst, up after this")
	memory := flag.Int("memory", math.MaxInt32, "give the burst up beyond so many MiB")
	flag.Parse()
	s, err := start(*nodes, *writes, func(config *memberlist.Config) {
		if *interval > 0 {
			config.GossipInterval = *interval
		}
		if *fanout > 0 {
			config.GossipNodes = *fanout
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	found := map[string]any{}
	if *writers == 0 {
		found["took_ms"] = s.one(*writes, *limit)
	} else {
		took, share, why := s.burst(*writes, *writers, *limit, *memory)
		found["duration_sec"], found["share"], found["given_up_for"] = took, share, why
	}
	s.quiet.Store(true)
	found["false_deaths"], found["resident_bytes"] = s.deaths.Load(), resident()
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
