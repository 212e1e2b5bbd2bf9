# A service with the program of docs/verify/ruby-jwt.md as it stands there. Only what every reader changes is replaced: the issuer,
# the audience and the algorithm.
#
# It prints the address it listens on and answers GET / with the subject of the caller's token, or 401 and the reason.
#
#   SERVICE_ISSUER    the token server
#   SERVICE_AUDIENCE  the name of this API there
#   SERVICE_ALG       the one algorithm it accepts
#   SERVICE_BARE      set: only the checks that the library does by default
#
# It needs no SERVICE_LIFESPAN, because it obeys max-age.
require "webrick"

page = File.expand_path("../../../docs/verify/ruby-jwt.md", __dir__)
program = File.read(page)[/^```ruby\n(.*?)^```$/m, 1]
{ "https://id.example.com" => "ISSUER", '"orders"' => "AUDIENCE", '"EdDSA"' => "ALG" }.each do |shown, name|
  value = ENV.fetch("SERVICE_#{name}")
  program.sub!(shown, shown.start_with?('"') ? value.dump : value) or abort "#{page} has no #{shown}"
end
eval program, TOPLEVEL_BINDING, page

def check(token)
  return verify(token) unless ENV["SERVICE_BARE"]
  JWT.decode(token, nil, true, algorithms: [ALG]) { |header| KEYS.find(header["kid"]) }.first
end

# Answers GET.
class Whoami < WEBrick::HTTPServlet::AbstractServlet
  def do_GET(request, response)
    token = request["Authorization"].to_s[/\ABearer (.*)\z/, 1] or raise "no bearer token"
    response.body = { sub: check(token)["sub"] }.to_json
  rescue StandardError => error
    response.status = 401
    response.body = "#{error.class}: #{error.message}"
  end
end

# Without it, the client's delayed ACK costs 40 ms, since an answer is two packets.
no_delay = ->(socket) { socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1) }
log = WEBrick::Log.new($stderr, WEBrick::Log::WARN)
server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: 0, AcceptCallback: no_delay, AccessLog: [], Logger: log)
server.mount("/", Whoami)
puts "http://127.0.0.1:#{server.listeners[0].addr[1]}/"
$stdout.flush
server.start
