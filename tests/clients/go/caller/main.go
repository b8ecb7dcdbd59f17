// Command caller is franz-go's caller for `headrace conformance`: plain headers, one client that sends and reads.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	brokers, replies := os.Args[1], os.Args[2]
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumeTopics(replies),
		// A time, not the end: the end is looked up some time after the first request.
		kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().Add(-time.Minute).UnixMilli())),
	)
	if err != nil {
		panic(err)
	}
	defer client.Close()

	var waiting sync.Map // correlation id -> chan []byte
	go func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			fetches.EachRecord(func(record *kgo.Record) {
				for _, header := range record.Headers {
					if header.Key != "correlation_id" {
						continue
					}
					if reply, ok := waiting.LoadAndDelete(string(header.Value)); ok {
						reply.(chan []byte) <- record.Value
					}
				}
			})
		}
	}()

	var out sync.Mutex
	say := func(text string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(text)
	}
	say("ready")
	var asking sync.WaitGroup
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		field := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 5) // number, topic, timeout, key, body
		asking.Add(1)
		go func() {
			defer asking.Done()
			millis, _ := strconv.Atoi(field[2])
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(millis)*time.Millisecond)
			defer cancel()
			reply := make(chan []byte, 1)
			waiting.Store(field[0], reply)
			defer waiting.Delete(field[0])
			request := &kgo.Record{Topic: field[1], Key: []byte(field[3]), Value: []byte(field[4])}
			request.Headers = []kgo.RecordHeader{
				{Key: "reply_to", Value: []byte(replies)},
				{Key: "correlation_id", Value: []byte(field[0])},
			}
			if err := client.ProduceSync(ctx, request).FirstErr(); err != nil && ctx.Err() == nil {
				say(field[0] + "\terror\t" + err.Error())
				return
			}
			select {
			case body := <-reply:
				say(field[0] + "\treply\t" + string(body))
			case <-ctx.Done():
				say(field[0] + "\ttimeout")
			}
		}()
	}
	asking.Wait()
}
