"""Good messages, from which others are made."""

from __future__ import annotations

EVENT = (
    b'{"event_id":"e-1","type":"dwell","dwell_ms":4000,"user_id":"user-42","item_id":"story-1",'
    b'"ts":1799999999000,"request_id":"r-1","position":2,"surface":"home","scope":"item",'
    b'"context":{"country":"DE","device":"phone","age":30}}'
)
ITEM = (
    b'{"item_id":"story-1","title":"How to bake bread","category":"food","tags":["a","b"],'
    b'"creator_id":"c","language":"en","published_ts":1799999999000,"duration_ms":60000,'
    b'"countries_allowed":["DE"],"min_age":12,"flags":["x"],"boost":1.5}'
)
PROFILE = (
    b'{"user_id":"user-42","country":"DE","age":30,"language":"de","preferred_categories":["sport"],'
    b'"followed_creators":["c"],"created_ts":1799999999000}'
)
REQUEST = (
    b'{"request_id":"r-1","user_id":"user-42","surface":"home","n":3,"context":{"country":"DE","ts":1800000000000},'
    b'"exclude":["a"],"seen":["b"],"filters":{"category":{"any":["x"]},"published_after":1},'
    b'"at_least":"1.e3-17","deadline_ms":150,"caller":"shop","explain":true,"lists":[{"surface":"home","n":2}]}'
)
IMPRESSION = (
    b'{"request_id":"r-1","user_id":"user-42","surface":"home","ts":1799999999000,"country":"DE","device":"",'
    b'"ranker":"","online":"","spec":"1","item_ids":["a"],"propensities":[1.0],"explored":[false],'
    b'"scores":[0.5],"features":"AAAA","sources":[["hot"]]}'
)
HEADERS = (b"events/1/5", b'{"offset":1,"position":0,"done":[[1,2]],"log":1}', b"dead-letters/3-42 1", b"17")
