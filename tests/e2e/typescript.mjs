// What a client on the TypeScript SDK sees of an endpoint: `node typescript.mjs RELEASE ERA URL KEY ASKED`.
//
// RELEASE is 1 or 2, of the SDK; ERA `legacy` or a revision to insist on; ASKED is JSON: tools with their arguments,
// resources, prompts with their arguments. It prints as JSON the revision, what was listed, and what each one gave.

const [release, era, url, key, asked] = process.argv.slice(2);
const wanted = JSON.parse(asked);
const requestInit = { headers: { Authorization: `Bearer ${key}` } };

async function connected() {
  const about = { name: "typescript", version: release };
  if (release === "1") {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const client = new Client(about);
    const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit });
    await client.connect(transport);
    return [client, transport.protocolVersion];
  }
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const mode = era === "legacy" ? "legacy" : { pin: era };
  const client = new Client(about, { versionNegotiation: { mode } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
  return [client, client.getNegotiatedProtocolVersion()];
}

const [client, version] = await connected();
const seen = { version, called: {}, read: {}, prompted: {} };
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
for (const [name, args] of Object.entries(wanted.tools)) {
  const result = await client.callTool({ name, arguments: args });
  seen.called[name] = result.content.map((part) => part.text ?? "").join("");
}
for (const uri of wanted.resources) {
  seen.read[uri] = (await client.readResource({ uri })).contents.map((part) => part.text ?? "").join("");
}
for (const [name, args] of Object.entries(wanted.prompts)) {
  const got = await client.getPrompt({ name, arguments: args });
  seen.prompted[name] = got.messages.map((message) => message.content.text ?? "").join("");
}
console.log(JSON.stringify(seen));
await client.close();
