'use strict'
// Plivo's Node SDK, pointed at a gateway as docs/how-to/move-from-plivo.md says, and what its tests share.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const axios = require('axios')
const plivo = require('plivo')

const demo = JSON.parse(fs.readFileSync(process.env.SENDPOOL_DEMO, 'utf8'))

// Applications go to a host that is written into the SDK; this sends them here, and everything else too.
const send = axios.getAdapter('http')
axios.defaults.adapter = (config) =>
  send({ ...config, url: config.url.replace('https://api.plivo.com', demo.base_url) })

const client = new plivo.Client(demo.auth_id, demo.auth_token, {
  url: `${demo.base_url}/v1/Account/${demo.auth_id}`,
})

/** Ask again and again until the answer is one, for at most ten seconds. */
async function until (ask, what) {
  const deadline = Date.now() + 10_000
  while (Date.now() < deadline) {
    const answer = await ask()
    if (answer) return answer
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`not within 10 s: ${what}`)
}

/** What of ours the SDK does not know, asked by hand. */
async function ours (method, path, body) {
  const answer = await axios({
    method,
    url: `${demo.base_url}/v1/Account/${demo.auth_id}/${path}`,
    data: body,
    auth: { username: demo.auth_id, password: demo.auth_token },
  })
  return answer.data
}

/** The SDK's classes of errors cannot be told apart; `status` and `message` can. */
async function refused (promise, status, words) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.status, status)
    assert.match(error.message, words)
    return true
  })
}

let named = 0
/** A powerpack of its own. */
async function freshPowerpack (params) {
  named += 1
  const made = await client.powerpacks.create(`node ${process.pid} ${named}`, params)
  return client.powerpacks.get(made.uuid)
}

module.exports = { client, demo, freshPowerpack, ours, plivo, refused, until }
