mod forwarding;
mod frame;
mod ring;
