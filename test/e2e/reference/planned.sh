#!/bin/bash
# The requests of the reference document for the endpoints that it announces as planned, as printed there; one JSON
# answer per line. auth.logout is printed there without its curl command.
set -euo pipefail

curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "exec",
"params": {
"command": "echo",
"args": ["Hello from Codex Gateway"]
},
"id": 1
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "proto",
"params": {
"stream_id": "session-123",
"data": "CgVIZWxsbw=="
},
"id": 2
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "mcp.connect",
"params": {
"server_config": {
"name": "my-mcp-server",
"command": "python",
"args": ["-m", "mcp_server"]
}
},
"id": 3
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "apply",
"params": {
"patch": "diff --git a/file.txt b/file.txt\n...",
"repo_path": "/tmp/repo",
"dry_run": false
},
"id": 4
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "interactive.start",
"params": {
"session_id": "tty-session-456",
"shell": "/bin/bash",
"cols": 80,
"rows": 24
},
"id": 5
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "auth.login",
"params": {
"provider": "chatgpt",
"credentials": {
"token": "user-token-from-chatgpt"
}
},
"id": 6
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "auth.logout",
"params": {
"session_id": "session-xyz"
},
"id": 7
}'
echo
curl -X POST "$GATEWAY_URL/jsonrpc" \
-H "X-API-Key: $GATEWAY_KEY" \
-H "Content-Type: application/json" \
-d '{
"jsonrpc": "2.0",
"method": "bff.proxy",
"params": {
"endpoint": "/api/users",
"method": "GET",
"query": {
"page": 1,
"limit": 10
}
},
"id": 8
}'
echo
