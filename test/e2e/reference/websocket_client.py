#!/usr/bin/env python3
import asyncio
import websockets
import json
import os

GATEWAY_URL = "wss://wrapper-467992722695.us-central1.run.app/ws"
GATEWAY_KEY = os.getenv("GATEWAY_KEY")

async def connect_gateway():
    headers = {
        "X-API-Key": GATEWAY_KEY
    }

    async with websockets.connect(GATEWAY_URL, extra_headers=headers) as websocket:
        # Enviar mensagem
        message = {
            "jsonrpc": "2.0",
            "method": "exec",
            "params": {
                "command": "echo",
                "args": ["WebSocket test"]
            },
            "id": 1
        }

        await websocket.send(json.dumps(message))

        # Receber resposta
        response = await websocket.recv()
        print(f"Received: {response}")

if __name__ == "__main__":
    asyncio.run(connect_gateway())
